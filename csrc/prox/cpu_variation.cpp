// Driver of the total variation: the rows are spread over threads.
#include "cpu.hpp"
#include "step_variation.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// Cumulative sums of y minus its mean, which is returned, so that they stay small.
template <class T>
HL_INLINE double accumulate_centred(const T* y, std::int64_t count, double* sums) {
    double total = 0.0;
    for (std::int64_t j = 0; j < count; ++j)
        total += static_cast<double>(y[j]);
    const double mean = total / static_cast<double>(count);
    sums[0] = 0.0;
    for (std::int64_t j = 0; j < count; ++j)
        sums[j + 1] = sums[j] + (static_cast<double>(y[j]) - mean);
    return mean;
}

template <class T>
Status variation_task(void* context, std::int64_t task) {
    const VariationJob<T>& job = *static_cast<const VariationJob<T>*>(context);
    const Range rows = rows_of(job, task);
    const std::int64_t n = job.columns;
    const auto points = static_cast<std::size_t>(n + 1);
    void* const memory = __builtin_malloc(points * (sizeof(double) + 2 * sizeof(std::int64_t)));
    if (memory == nullptr) return Status::out_of_memory("prox");
    double* const sums = static_cast<double*>(memory);
    std::int64_t* const upper = reinterpret_cast<std::int64_t*>(sums + points);
    std::int64_t* const lower = upper + points;
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
        const T* const v = job.v + row * n;
        const double k = job.numbers[row * job.number_stride];
        const double centre = accumulate_centred(v, n, sums);
        TautString<T> string{
            v, job.out + row * n, n, k, centre, sums, {upper, 0, 0, 1.0}, {lower, 0, 0, -1.0}};
        string.run();
    }
    __builtin_free(memory);
    return task_done("prox");
}

}  // namespace

Status prox_variation(const VariationJob<float>& job) {
    return over_rows(job, variation_task<float>);
}
Status prox_variation(const VariationJob<double>& job) {
    return over_rows(job, variation_task<double>);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
