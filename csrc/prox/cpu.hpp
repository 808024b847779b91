// What the drivers of the proximal operators share, and the names of the kernels.
#pragma once

#include "../core/blocks.hpp"
#include "../core/interrupt.hpp"
#include "../core/pack_memory.hpp"
#include "../core/pool.hpp"
#include "kernels.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

constexpr std::int64_t elements_per_task = 1 << 15;
constexpr std::int64_t elements_per_piece = 1 << 12;  // stay in L1 between check and work

// Rows of this length that make one task.
HL_INLINE std::int64_t rows_per_task(std::int64_t columns) {
    return columns < elements_per_task ? elements_per_task / (columns > 0 ? columns : 1) : 1;
}

// Runs task(job, k) over tasks of rows.
template <class Job>
HL_INLINE Status over_rows(const Job& job, Task task) {
    const std::int64_t each = rows_per_task(job.columns);
    return parallel_for((job.rows + each - 1) / each, job.num_threads, task,
                        const_cast<Job*>(&job));
}

struct Range {
    std::int64_t begin, end;
};

// Rows from the end on: whoever looked at all of v before, for NaN, left its end in the cache.
template <class Job>
HL_INLINE Range rows_of(const Job& job, std::int64_t task) {
    const std::int64_t each = rows_per_task(job.columns);
    const std::int64_t from_start = (job.rows + each - 1) / each - 1 - task;
    return {from_start * each, smaller((from_start + 1) * each, job.rows)};
}

// Zero times a finite number is a zero; zero times any other is not a number, and stays so in sums.
template <class T>
HL_INLINE bool is_finite(const T* x, std::int64_t count) {
    using V = typename PackOf<T>::Type;
    constexpr int chains = 8, lanes = LaneTraits<V>::lanes;
    V sum[chains] = {};
    std::int64_t j = 0;
    for (; j + chains * lanes <= count; j += chains * lanes)
        for (int k = 0; k < chains; ++k)
            sum[k] += load<V>(x + j + k * lanes) * T(0);
    T rest = 0;
    for (; j < count; ++j)
        rest += x[j] * T(0);
    for (int k = 1; k < chains; ++k)
        sum[0] += sum[k];
    return rest == T(0) && !any_lane(sum[0] != V{});
}

// Whether work on a piece of v is of use; false when this or another piece is not finite.
template <class Job, class T>
HL_INLINE bool is_useful(const Job& job, const T* x, std::int64_t count) {
    if (job.not_finite == nullptr) return true;
    if (__atomic_load_n(job.not_finite, __ATOMIC_RELAXED) != 0) return false;
    if (HL_LIKELY(is_finite(x, count))) return true;
    __atomic_store_n(job.not_finite, 1, __ATOMIC_RELAXED);
    return false;
}

HL_INLINE Status task_done(const char* name) {
    return stop_requested() ? Status::interrupted(name) : Status::success();
}

Status prox_elements(const ElementJob<float>& job);
Status prox_elements(const ElementJob<double>& job);
Status prox_rows(const RowJob<float>& job);
Status prox_rows(const RowJob<double>& job);
Status prox_groups(const GroupJob<float>& job);
Status prox_groups(const GroupJob<double>& job);
Status prox_top(const TopJob<float>& job);
Status prox_top(const TopJob<double>& job);
Status prox_variation(const VariationJob<float>& job);
Status prox_variation(const VariationJob<double>& job);

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
