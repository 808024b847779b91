// Every promise of the pool under load. Meant to be built with a sanitizer as well.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.hpp"
#include "core/interrupt.hpp"
#include "core/pool.hpp"

namespace {

using hl::Code;
using hl::Status;
using Clock = std::chrono::steady_clock;

template <class Function>
Status parallel(std::int64_t count, int num_threads, Function function) {
    const hl::Task task = [](void* context, std::int64_t index) {
        return (*static_cast<Function*>(context))(index);
    };
    return hl::parallel_for(count, num_threads, task, &function);
}

void busy_wait(std::chrono::microseconds duration) {
    const Clock::time_point end = Clock::now() + duration;
    while (Clock::now() < end) {
    }
}

// The counts are plain integers: the pool itself must order the writes before the reads.
void runs_each_index_once(std::int64_t count, int num_threads) {
    std::vector<int> visits(static_cast<std::size_t>(count), 0);
    const Status status = parallel(count, num_threads, [&](std::int64_t index) {
        ++visits[static_cast<std::size_t>(index)];
        return Status::success();
    });
    CHECK(status.ok());
    for (const int visit : visits)
        CHECK(visit == 1);
}

void covers_sizes_and_threads() {
    for (const std::int64_t count : {0, 1, 2, 3, 17, 1000}) {
        for (const int num_threads : {0, 1, 2, 3, 8, 33})
            runs_each_index_once(count, num_threads);
    }
    for (int repeat = 0; repeat < 2000; ++repeat)
        runs_each_index_once(8, 1 + repeat % 4);
    CHECK(parallel(-1, 2, [](std::int64_t) { return Status::success(); }).code ==
          Code::invalid_argument);
}

void nests() {
    std::atomic<int> total{0};
    const Status status = parallel(20, 4, [&](std::int64_t) {
        const std::thread::id outer = std::this_thread::get_id();
        return parallel(20, 4, [&](std::int64_t) {
            CHECK(std::this_thread::get_id() == outer);
            total.fetch_add(1);
            return Status::success();
        });
    });
    CHECK(status.ok());
    CHECK(total.load() == 400);
}

void serves_many_callers() {
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 16; ++caller) {
        callers.emplace_back([] {
            for (int repeat = 0; repeat < 100; ++repeat)
                runs_each_index_once(50, 4);
        });
    }
    for (std::thread& caller : callers)
        caller.join();
}

void reports_the_lowest_failure() {
    for (int repeat = 0; repeat < 300; ++repeat) {
        std::atomic<int> calls{0};
        const Status status = parallel(200, 1 + repeat % 5, [&](std::int64_t index) {
            calls.fetch_add(1);
            // The lower failure takes longer, and must win all the same.
            if (index == 20) busy_wait(std::chrono::microseconds(100));
            if (index == 20 || index == 23) return Status::user_function("stress", 5, index);
            return hl::stop_requested() ? Status::interrupted("stress") : Status::success();
        });
        CHECK(status.code == Code::user_function);
        CHECK(status.index == 20);
        CHECK(status.detail == 5);
        CHECK(calls.load() >= 21);
        CHECK(calls.load() < 200);
    }
}

void turns_exceptions_into_status() {
    const auto memory = [](std::int64_t index) -> Status {
        if (index == 3) throw std::bad_alloc();
        return Status::success();
    };
    const auto other = [](std::int64_t index) -> Status {
        if (index == 3) throw std::runtime_error("stress");
        return Status::success();
    };
    for (const int num_threads : {1, 4}) {
        CHECK(parallel(10, num_threads, memory).code == Code::out_of_memory);
        CHECK(parallel(10, num_threads, other).code == Code::internal);
    }
    CHECK(parallel(2, 2, [&](std::int64_t) { return parallel(5, 2, other); }).code ==
          Code::internal);
}

std::atomic<bool> stop_wanted{false};

// The only long task waits for the stop; it runs on the caller or on a worker.
void stops_on_interrupt(std::int64_t count) {
    hl::set_interrupt_hook([] { return stop_wanted.load(); });
    stop_wanted.store(false);
    std::thread signaller([] {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        stop_wanted.store(true);
    });
    const Status status = parallel(count, 2, [](std::int64_t index) {
        while (index == 1 && !hl::stop_requested())
            busy_wait(std::chrono::microseconds(50));
        return index == 1 ? Status::interrupted("stress") : Status::success();
    });
    signaller.join();
    hl::set_interrupt_hook(nullptr);
    CHECK(status.code == Code::interrupted);
}

int exit_code_of(pid_t child) {
    int state = 0;
    CHECK(waitpid(child, &state, 0) == child);
    return WIFEXITED(state) ? WEXITSTATUS(state) : -1;
}

// TSan cannot follow threads that are started after a fork of a process with threads.
#if defined(__SANITIZE_THREAD__)
constexpr int threads_of_child = 1;
#else
constexpr int threads_of_child = 4;
#endif

void child_works(int exit_code) {
    runs_each_index_once(200, threads_of_child);
    _exit(exit_code);
}

void forks_while_idle_and_while_busy() {
    std::atomic<bool> done{false};
    for (const bool busy : {false, true}) {
        std::thread worker([&] {
            while (busy && !done.load())
                runs_each_index_once(100, 4);
        });
        for (int repeat = 0; repeat < 10; ++repeat) {
            const pid_t child = fork();
            CHECK(child >= 0);
            if (child == 0) child_works(7);
            CHECK(exit_code_of(child) == 7);
            runs_each_index_once(200, 4);
        }
        done.store(true);
        worker.join();
        done.store(false);
    }
}

// A child made inside a task has lost the workers of that job; the call must end and say so.
void fork_inside_a_task_ends() {
    bool is_child = false;
    const std::thread::id caller = std::this_thread::get_id();
    std::atomic<bool> forked{false};
    std::atomic<int> child_exit{-1};
    const Status status = parallel(64, 4, [&](std::int64_t) {
        busy_wait(std::chrono::microseconds(200));
        if (std::this_thread::get_id() == caller && !forked.exchange(true)) {
            const pid_t child = fork();
            if (child == 0) {
                is_child = true;
            } else {
                child_exit.store(exit_code_of(child));
            }
        }
        return Status::success();
    });
    if (is_child) {
        CHECK(status.code == Code::internal);
        child_works(9);
    }
    CHECK(status.ok());
    CHECK(child_exit.load() == 9);
}

void keeps_the_thread_setting() {
    const int automatic = hl::get_num_threads();
    CHECK(automatic >= 1);
    hl::set_num_threads(3);
    CHECK(hl::get_num_threads() == 3);
    hl::set_num_threads(0);
    CHECK(hl::get_num_threads() == automatic);
}

}  // namespace

int main() {
    keeps_the_thread_setting();
    covers_sizes_and_threads();
    nests();
    serves_many_callers();
    reports_the_lowest_failure();
    turns_exceptions_into_status();
    for (const std::int64_t count : {2, 100})
        stops_on_interrupt(count);
    forks_while_idle_and_while_busy();
    fork_inside_a_task_ends();
    return 0;
}
