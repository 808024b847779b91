// How many threads a call uses when it does not say.
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "pool.hpp"

#if defined(__linux__)
#include <sched.h>
#endif

namespace hl {
namespace {

constexpr long max_from_environment = 1 << 20;

struct Environment {
    int num_threads = 0;  // 0: not set
    char error[160] = "";
};

Environment read_environment() noexcept {
    Environment environment;
    const char* text = std::getenv("HOTLOOPS_NUM_THREADS");
    if (text == nullptr || *text == '\0') return environment;
    char* end = nullptr;
    errno = 0;
    const long value = std::strtol(text, &end, 10);
    if (errno == 0 && *end == '\0' && value >= 1 && value <= max_from_environment) {
        environment.num_threads = static_cast<int>(value);
    } else {
        std::snprintf(environment.error, sizeof environment.error,
                      "HOTLOOPS_NUM_THREADS must be a positive integer, got '%.60s'", text);
    }
    return environment;
}

const Environment environment = read_environment();
std::atomic<int> chosen{0};  // 0: the default

int count_processors() noexcept {
#if defined(__linux__)
    for (int capacity = CPU_SETSIZE; capacity <= CPU_SETSIZE << 6; capacity *= 2) {
        cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(capacity));
        if (set == nullptr) break;
        const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(capacity));
        const int failed = sched_getaffinity(0, bytes, set);
        const int count = failed == 0 ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (count > 0) return count;
    }
#endif
    const unsigned count_online = std::thread::hardware_concurrency();
    return count_online > 0 ? static_cast<int>(count_online) : 1;
}

}  // namespace

int get_num_threads() noexcept {
    const int count = chosen.load(std::memory_order_relaxed);
    if (count > 0) return count;
    return environment.num_threads > 0 ? environment.num_threads : count_processors();
}

void set_num_threads(int count) noexcept {
    chosen.store(count > 0 ? count : 0, std::memory_order_relaxed);
}

const char* num_threads_error() noexcept {
    return environment.error[0] == '\0' ? nullptr : environment.error;
}

}  // namespace hl

// threadpoolctl finds the library by these two names.
extern "C" __attribute__((visibility("default"))) int hotloops_get_num_threads() {
    return hl::get_num_threads();
}

extern "C" __attribute__((visibility("default"))) void hotloops_set_num_threads(int count) {
    hl::set_num_threads(count);
}
