// Functions that only the tests call, to reach the pool, the interrupts and the Status translation.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <cfenv>
#include <chrono>
#include <mutex>
#include <new>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "bind.hpp"
#include "bind_status.hpp"
#include "interrupt.hpp"
#include "pool.hpp"

namespace py = pybind11;

namespace hl {
namespace {

using Clock = std::chrono::steady_clock;

Status run(std::int64_t count, int num_threads, Task task, void* context) {
    const py::gil_scoped_release release;
    return parallel_for(count, num_threads, task, context);
}

struct Visits {
    std::vector<std::atomic<int>> counts;
    std::int64_t nested;
    std::chrono::microseconds work;
    std::mutex mutex;
    std::set<std::thread::id> threads;

    Visits(std::int64_t count, std::int64_t nested_, std::int64_t work_us)
        : counts(static_cast<std::size_t>(count * nested_)), nested(nested_), work(work_us) {}
};

struct Inner {
    Visits* visits;
    std::int64_t outer;
};

Status visit_inner(void* context, std::int64_t index) {
    const Inner& inner = *static_cast<Inner*>(context);
    Visits& visits = *inner.visits;
    visits.counts[static_cast<std::size_t>(inner.outer * visits.nested + index)].fetch_add(1);
    const std::lock_guard<std::mutex> lock(visits.mutex);
    visits.threads.insert(std::this_thread::get_id());
    return Status::success();
}

Status visit(void* context, std::int64_t index) {
    Inner inner{static_cast<Visits*>(context), index};
    const Clock::time_point end = Clock::now() + inner.visits->work;
    while (Clock::now() < end) {
    }
    return parallel_for(inner.visits->nested, 0, visit_inner, &inner);
}

// How often each of count * nested tasks ran, and on how many threads.
py::tuple visit_all(std::int64_t count, int num_threads, std::int64_t nested,
                    std::int64_t work_us) {
    Visits visits(count, nested, work_us);
    throw_status(run(count, num_threads, visit, &visits));
    std::vector<int> counts(visits.counts.begin(), visits.counts.end());
    return py::make_tuple(std::move(counts), visits.threads.size());
}

struct Failures {
    std::set<std::int64_t> indices;
    std::string how;
    std::atomic<std::int64_t> calls{0};
};

Status fail_at(void* context, std::int64_t index) {
    Failures& failures = *static_cast<Failures*>(context);
    failures.calls.fetch_add(1);
    if (failures.indices.count(index) == 0) return Status::success();
    if (failures.how == "bad_alloc") throw std::bad_alloc();
    if (failures.how == "exception") throw std::runtime_error("thrown by a test");
    return Status::user_function("_test_fail", 7, index);
}

py::tuple fail(std::int64_t count, int num_threads, std::set<std::int64_t> indices,
               const std::string& how) {
    Failures failures{std::move(indices), how};
    const Status status = run(count, num_threads, fail_at, &failures);
    return py::make_tuple(static_cast<int>(status.code), status.index, failures.calls.load());
}

Status wait_for_stop(void* context, std::int64_t) {
    const Clock::time_point end = *static_cast<Clock::time_point*>(context);
    while (Clock::now() < end) {
        if (stop_requested()) return Status::interrupted("_test_interrupt");
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return Status::success();
}

void interrupt(double seconds, std::int64_t count, int num_threads) {
    Clock::time_point end =
        Clock::now() + std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
    throw_status(run(count, num_threads, wait_for_stop, &end));
}

void raise(int code, int detail, const char* where, std::int64_t index) {
    static thread_local std::string kept;  // a Status only points at its text
    kept = where;
    throw_status({static_cast<Code>(code), detail, kept.c_str(), index});
}

struct FloatChecks {
    std::atomic<int> denormals{0};
    std::atomic<int> nearest{0};
};

Status check_float(void* context, std::int64_t) {
    FloatChecks& checks = *static_cast<FloatChecks*>(context);
    volatile double tiny = 1e-300;
    volatile double ratio = 1e-10;
    const volatile double product = tiny * ratio;
    if (product > 0.0 && product * 1e10 > 0.0) checks.denormals.fetch_add(1);
    if (std::fegetround() == FE_TONEAREST) checks.nearest.fetch_add(1);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // lets every thread take its turn
    return Status::success();
}

// In how many of count tasks denormals survive and the rounding is to nearest.
py::tuple float_environment(std::int64_t count, int num_threads) {
    FloatChecks checks;
    throw_status(run(count, num_threads, check_float, &checks));
    return py::make_tuple(checks.denormals.load(), checks.nearest.load());
}

}  // namespace

void register_test_hooks(py::module_& module) {
    module.def("_test_visit", &visit_all, py::arg("count"), py::arg("num_threads") = 0,
               py::arg("nested") = 1, py::arg("work_us") = 0);
    module.def("_test_fail", &fail, py::arg("count"), py::arg("num_threads"), py::arg("indices"),
               py::arg("how") = "status");
    module.def("_test_interrupt", &interrupt, py::arg("seconds"), py::arg("count") = 4,
               py::arg("num_threads") = 0);
    module.def("_test_raise", &raise, py::arg("code"), py::arg("detail") = 0,
               py::arg("where") = "_test_raise", py::arg("index") = -1);
    module.def("_test_float_environment", &float_environment, py::arg("count"),
               py::arg("num_threads") = 0);
}

}  // namespace hl
