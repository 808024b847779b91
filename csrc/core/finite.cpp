#include "finite.hpp"

#include <atomic>

#include "interrupt.hpp"
#include "pool.hpp"

namespace hl {
namespace {

constexpr std::int64_t elements_per_task = 1 << 17;
constexpr std::int64_t elements_per_look = 1 << 12;

struct Job {
    const void* data;
    std::int64_t size;
    std::atomic<bool> finite{true};
};

// All bits of the exponent are set in infinities and NaN, and nowhere else.
template <std::uint16_t exponent>
struct Half {
    using Type = std::uint16_t;

    static bool finite_part(const std::uint16_t* bits, std::int64_t count) {
        std::uint16_t bad = 0;
        for (std::int64_t i = 0; i < count; ++i)
            bad |= static_cast<std::uint16_t>((bits[i] & exponent) == exponent);
        return bad == 0;
    }
};

// Zero times a finite number is a zero; zero times any other is not a number, and stays so in sums.
template <class T>
struct Whole {
    using Type = T;

    static bool finite_part(const T* x, std::int64_t count) {
        constexpr int chains = 64 / static_cast<int>(sizeof(T)) * 2;
        T sum[chains] = {};
        std::int64_t i = 0;
        for (; i + chains <= count; i += chains)
            for (int k = 0; k < chains; ++k)
                sum[k] += x[i + k] * T(0);
        for (; i < count; ++i)
            sum[0] += x[i] * T(0);
        T total = 0;
        for (int k = 0; k < chains; ++k)
            total += sum[k];
        return total == T(0);
    }
};

template <class Numbers>
Status look(void* context, std::int64_t task) {
    Job& job = *static_cast<Job*>(context);
    const auto* const x = static_cast<const typename Numbers::Type*>(job.data);
    const std::int64_t begin = task * elements_per_task;
    const std::int64_t end =
        begin + elements_per_task < job.size ? begin + elements_per_task : job.size;
    for (std::int64_t i = begin; i < end; i += elements_per_look) {
        if (!job.finite.load(std::memory_order_relaxed)) return Status::success();
        const std::int64_t left = end - i;
        const std::int64_t count = left < elements_per_look ? left : elements_per_look;
        if (!Numbers::finite_part(x + i, count)) job.finite.store(false, std::memory_order_relaxed);
    }
    return stop_requested() ? Status::interrupted("all_finite") : Status::success();
}

Task look_at(Precision precision) {
    switch (precision) {
        case Precision::f32:
            return look<Whole<float>>;
        case Precision::f64:
            return look<Whole<double>>;
        case Precision::f16:
            return look<Half<0x7c00u>>;
        default:
            return look<Half<0x7f80u>>;
    }
}

}  // namespace

Status all_finite(const std::uint64_t* addresses, const std::int64_t* sizes, std::int64_t count,
                  Precision precision, int num_threads, bool& finite) {
    finite = true;
    for (std::int64_t i = 0; i < count && finite; ++i) {
        Job job{reinterpret_cast<const void*>(addresses[i]), sizes[i]};
        const std::int64_t tasks = (sizes[i] + elements_per_task - 1) / elements_per_task;
        const Status status = parallel_for(tasks, num_threads, look_at(precision), &job);
        if (!status.ok()) return status;
        finite = job.finite.load();
    }
    return Status::success();
}

}  // namespace hl
