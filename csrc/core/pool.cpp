#include "pool.hpp"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <initializer_list>
#include <limits>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "interrupt.hpp"

namespace hl {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int max_threads = 1024;
constexpr Clock::duration poll_period = std::chrono::milliseconds(50);
constexpr Clock::duration idle_time = std::chrono::seconds(1);
// Waking a parked thread costs the waker tens of microseconds, on a virtual machine a hundred: as
// much as many jobs take. So threads look around for as long as a caller in Python needs between
// two jobs, and from the first microseconds on they let others run who want to.
constexpr Clock::duration spin_time = std::chrono::microseconds(5);
constexpr Clock::duration yield_time = std::chrono::microseconds(200);
constexpr std::uint64_t no_index = std::numeric_limits<std::uint64_t>::max();

struct Job {
    Task task;
    void* context;
    std::uint64_t count;
    std::atomic<std::uint64_t> next{0};
    std::atomic<std::uint64_t> failed_index{no_index};
    std::atomic<bool> interrupted{false};
    std::atomic<bool> orphaned{false};  // a fork inside the job left its workers behind
    Status failure = Status::success();

    Job(Task task_, void* context_, std::int64_t count_)
        : task(task_), context(context_), count(static_cast<std::uint64_t>(count_)) {}
};

struct ThreadState {
    Job* job = nullptr;
    std::uint64_t index = 0;
    bool is_worker = false;
    Clock::time_point next_poll{};
};

thread_local ThreadState this_thread;
std::atomic<InterruptHook> interrupt_hook{nullptr};
std::mutex failure_mutex;  // guards Job::failure of every job: failures are rare

void record_failure(Job& job, std::uint64_t index, const Status& status) {
    const std::lock_guard<std::mutex> lock(failure_mutex);
    if (index < job.failed_index.load(std::memory_order_relaxed)) {
        job.failure = status;
        job.failed_index.store(index, std::memory_order_relaxed);
    }
}

Status result_of(const Job& job) {
    if (job.interrupted.load(std::memory_order_relaxed)) {
        const bool named = job.failure.code == Code::interrupted;
        return named ? job.failure : Status::interrupted("parallel_for");
    }
    if (job.orphaned.load(std::memory_order_relaxed)) {
        return Status::internal("parallel_for: the process was forked inside a task");
    }
    return job.failure;
}

Status call_task(Task task, void* context, std::uint64_t index) noexcept {
    try {
        return task(context, static_cast<std::int64_t>(index));
    } catch (const std::bad_alloc&) {
        return Status::out_of_memory("parallel_for");
    } catch (...) {
        return Status::internal("parallel_for: a task threw an exception",
                                static_cast<std::int64_t>(index));
    }
}

void work_on(Job& job) noexcept {
    this_thread.index = 0;
    while (!stop_requested()) {
        const std::uint64_t index = job.next.fetch_add(1, std::memory_order_relaxed);
        // Every index below a failed one was handed out before it, so nothing that could decide
        // the result is skipped here.
        if (index >= job.count || index > job.failed_index.load(std::memory_order_relaxed)) return;
        this_thread.index = index;
        const Status status = call_task(job.task, job.context, index);
        if (!status.ok()) record_failure(job, index, status);
    }
}

bool poll_hook() noexcept {
    const InterruptHook hook = interrupt_hook.load(std::memory_order_acquire);
    if (hook == nullptr || Clock::now() < this_thread.next_poll) return false;
    const bool stop = hook();
    this_thread.next_poll = Clock::now() + poll_period;
    return stop;
}

// A thread that comes from elsewhere first polls after a while. One that runs one short job after
// the other keeps its appointment, or it would never poll.
void start_polling() {
    const Clock::time_point now = Clock::now();
    if (this_thread.next_poll + idle_time < now) this_thread.next_poll = now + poll_period;
}

template <class Condition>
bool spin_until(Condition condition) {
    const Clock::time_point begin = Clock::now();
    for (Clock::duration spent{0}; spent < yield_time; spent = Clock::now() - begin) {
        for (int i = 0; i < 8; ++i) {
            if (condition()) return true;
        }
        if (spent > spin_time) std::this_thread::yield();
    }
    return condition();
}

// Workers leave signals to the threads of the program, but not the faults of their own code.
class SignalsBlocked {
  public:
    SignalsBlocked() {
        sigset_t blocked;
        sigfillset(&blocked);
        for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) {
            sigdelset(&blocked, fault);
        }
        pthread_sigmask(SIG_BLOCK, &blocked, &previous_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

  private:
    sigset_t previous_;
};

// Never destroyed, and its threads are detached: at exit, and in the child of a fork, parked
// workers may still look at it.
class Pool {
  public:
    bool try_acquire() { return !busy_.exchange(true, std::memory_order_acquire); }
    void release() { busy_.store(false, std::memory_order_release); }

    void run(Job& job, int helpers) {
        helpers = open(job, helpers);
        for (int i = 0; i < helpers; ++i)
            work_ready_.notify_one();
        work_on(job);
        close();
    }

    void before_fork() { mutex_.lock(); }
    void after_fork_in_parent() { mutex_.unlock(); }
    void after_fork_in_child() {
        inside_.store(0, std::memory_order_relaxed);
        mutex_.unlock();
    }

  private:
    int open(Job& job, int helpers) {
        const std::lock_guard<std::mutex> lock(mutex_);
        grow(helpers);
        helpers = std::min(helpers, num_workers_);
        job_ = &job;
        seats_.store(helpers, std::memory_order_relaxed);
        return helpers;
    }

    // Workers that did not come in time find no seat; those inside are waited for.
    void close() {
        std::unique_lock<std::mutex> lock(mutex_);
        seats_.store(0, std::memory_order_relaxed);
        job_ = nullptr;
        const auto empty = [this] { return inside_.load(std::memory_order_acquire) == 0; };
        if (empty()) return;
        lock.unlock();
        if (spin_until(empty)) return;
        lock.lock();
        while (!work_done_.wait_until(lock, Clock::now() + poll_period, empty)) {
            lock.unlock();
            stop_requested();
            lock.lock();
        }
    }

    void grow(int wanted) {
        if (num_workers_ >= wanted) return;
        const SignalsBlocked blocked;
        try {
            for (; num_workers_ < wanted; ++num_workers_) {
                std::thread(&Pool::serve, this).detach();
            }
        } catch (const std::system_error&) {
            return;  // the limit of threads is reached: the job runs on those there are
        } catch (const std::bad_alloc&) {
            return;
        }
    }

    void serve() noexcept {
        this_thread.is_worker = true;
        const auto seat_free = [this] { return seats_.load(std::memory_order_relaxed) > 0; };
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            work_ready_.wait(lock, seat_free);
            seats_.fetch_sub(1, std::memory_order_relaxed);
            inside_.fetch_add(1, std::memory_order_relaxed);
            Job& job = *job_;
            lock.unlock();
            this_thread.job = &job;
            work_on(job);
            this_thread.job = nullptr;
            lock.lock();
            if (inside_.fetch_sub(1, std::memory_order_release) == 1) work_done_.notify_one();
            lock.unlock();
            spin_until(seat_free);
            lock.lock();
        }
    }

    std::atomic<bool> busy_{false};
    std::mutex mutex_;
    std::condition_variable work_ready_;
    std::condition_variable work_done_;
    Job* job_ = nullptr;
    int num_workers_ = 0;
    // Written under the mutex; atomic because they are spun on without it.
    std::atomic<int> seats_{0};
    std::atomic<int> inside_{0};
};

std::atomic<Pool*> pool{nullptr};
Pool* forking_pool = nullptr;  // touched by the fork handlers only, which hold failure_mutex

Pool* get_pool() noexcept {
    Pool* current = pool.load(std::memory_order_acquire);
    if (current != nullptr) return current;
    Pool* created = new (std::nothrow) Pool;
    if (created == nullptr) return nullptr;
    if (pool.compare_exchange_strong(current, created, std::memory_order_acq_rel)) return created;
    delete created;
    return current;
}

void before_fork() {
    failure_mutex.lock();
    forking_pool = pool.load(std::memory_order_acquire);
    if (forking_pool != nullptr) forking_pool->before_fork();
}

void after_fork_in_parent() {
    if (forking_pool != nullptr) forking_pool->after_fork_in_parent();
    failure_mutex.unlock();
}

void after_fork_in_child() {
    if (forking_pool != nullptr) forking_pool->after_fork_in_child();
    pool.store(nullptr, std::memory_order_release);
    if (this_thread.job != nullptr) this_thread.job->orphaned.store(true);
    failure_mutex.unlock();
}

// Registered when the library is loaded: a lazy registration could itself be cut by a fork.
[[maybe_unused]] const int fork_handlers =
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);

Status run_nested(std::int64_t count, Task task, void* context) noexcept {
    for (std::int64_t index = 0; index < count; ++index) {
        if (stop_requested()) return Status::interrupted("parallel_for");
        const Status status = call_task(task, context, static_cast<std::uint64_t>(index));
        if (!status.ok()) return status;
    }
    return Status::success();
}

void run_shared(Job& job, int num_threads) noexcept {
    Pool* shared = num_threads > 1 ? get_pool() : nullptr;
    if (shared != nullptr && shared->try_acquire()) {
        shared->run(job, num_threads - 1);
        shared->release();
    } else {
        work_on(job);
    }
}

}  // namespace

bool stop_requested() noexcept {
    Job* const job = this_thread.job;
    if (job == nullptr) return poll_hook();
    if (job->interrupted.load(std::memory_order_relaxed)) return true;
    if (!this_thread.is_worker && poll_hook()) {
        job->interrupted.store(true, std::memory_order_relaxed);
        return true;
    }
    return job->failed_index.load(std::memory_order_relaxed) < this_thread.index;
}

void set_interrupt_hook(InterruptHook hook) noexcept {
    interrupt_hook.store(hook, std::memory_order_release);
}

Status parallel_for(std::int64_t count, int num_threads, Task task, void* context) noexcept {
    if (count < 0) return Status::invalid_argument("parallel_for: negative count");
    if (count == 0) return Status::success();
    if (this_thread.job != nullptr) return run_nested(count, task, context);
    if (num_threads <= 0) num_threads = count > 1 ? get_num_threads() : 1;  // it asks the system
    num_threads = static_cast<int>(std::min<std::int64_t>({num_threads, max_threads, count}));

    Job job(task, context, count);
    this_thread.job = &job;
    start_polling();
    run_shared(job, num_threads);
    this_thread.job = nullptr;
    return result_of(job);
}

}  // namespace hl
