// The thread pool: one per process, workers created on demand, safe across fork().
#pragma once

#include <cstdint>

#include "status.hpp"

namespace hl {

using Task = Status (*)(void* context, std::int64_t index);

// Calls task(context, i) once for every i in [0, count), on the calling thread and up to
// num_threads - 1 workers; num_threads <= 0 means get_num_threads(). Indices are handed out in
// ascending order, one at a time.
//
// It runs serially on the caller when it is nested in a task, or when another caller holds the
// pool. The first failure stops the job; which Status comes back does not depend on the number of
// threads: an interrupt, else the failure of the lowest index. An exception that leaves a task
// becomes a Status.
Status parallel_for(std::int64_t count, int num_threads, Task task, void* context) noexcept;

// The default is HOTLOOPS_NUM_THREADS, else the number of processors this process may run on.
int get_num_threads() noexcept;

// A count below one restores the default.
void set_num_threads(int count) noexcept;

// Null, or what is wrong with HOTLOOPS_NUM_THREADS.
const char* num_threads_error() noexcept;

}  // namespace hl
