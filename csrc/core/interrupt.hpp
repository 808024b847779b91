// How a long-running task learns that it should stop.
#pragma once

namespace hl {

// Tasks call this at least every few milliseconds and return Status::interrupted(where) when it is
// true. On the calling thread it polls the hook, at most every 50 ms; on workers it reads a flag of
// the running job. It is also true once a task with a lower index has failed. Outside a job it
// polls the hook only.
bool stop_requested() noexcept;

// The hook says whether the user wants to stop. It is called on the calling thread only; null
// removes it.
using InterruptHook = bool (*)();
void set_interrupt_hook(InterruptHook hook) noexcept;

}  // namespace hl
