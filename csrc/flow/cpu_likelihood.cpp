// log p of negative binomial counts: the formula of zero for whole packs, put right where the count
// is not zero.
#include "cpu_counts.hpp"

#include "step_likelihood.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int lanes = LaneTraits<f64v>::lanes;
constexpr std::int64_t elements_per_task = 1 << 14;

template <class T>
HL_INLINE double element(const CountParameter<T>& parameter, std::int64_t row,
                         std::int64_t column) {
    return static_cast<double>(
        parameter.data[row * parameter.row_stride + column * parameter.column_stride]);
}

template <class T>
HL_INLINE void store_slope(T* target, std::int64_t index, double value) {
    if (target != nullptr) target[index] = static_cast<T>(value);
}

// Columns begin, ..., begin + count - 1 of a row, count <= lanes.
template <class T>
HL_INLINE void likelihood_pack(const LikelihoodJob<T>& job, std::int64_t row, std::int64_t begin,
                               int count) {
    f64v x{}, mu{}, theta = broadcast<f64v>(1.0);
    for (int lane = 0; lane < count; ++lane) {
        x[lane] = element(job.counts, row, begin + lane);
        mu[lane] = element(job.mu, row, begin + lane);
        theta[lane] = element(job.theta, row, begin + lane);
    }
    mu = clamp_mean(mu);
    theta = clamp_dispersion(theta);
    const Likelihood<f64v> zero = zero_count_likelihood(mu, theta);
    const std::uint32_t positive = lane_bits(x > 0.0);
    for (int lane = 0; lane < count; ++lane) {
        Likelihood<double> found{zero.value[lane], zero.mu_slope[lane], zero.theta_slope[lane]};
        if ((positive >> lane & 1) != 0) found = likelihood(x[lane], mu[lane], theta[lane]);
        const std::int64_t index = row * job.columns + begin + lane;
        job.value[index] = static_cast<T>(found.value);
        store_slope(job.mu_slope, index, found.mu_slope);
        store_slope(job.theta_slope, index, found.theta_slope);
    }
}

// A task is a run of packs of the whole array.
template <class T>
Status likelihood_task(void* context, std::int64_t task) {
    const LikelihoodJob<T>& job = *static_cast<const LikelihoodJob<T>*>(context);
    const std::int64_t total = job.rows * job.columns;
    std::int64_t i = task * elements_per_task;
    const std::int64_t end = i + elements_per_task < total ? i + elements_per_task : total;
    while (i < end) {
        const std::int64_t row = i / job.columns;
        const std::int64_t column = i % job.columns;
        const std::int64_t left = end - i < job.columns - column ? end - i : job.columns - column;
        const int count = static_cast<int>(left < lanes ? left : lanes);
        likelihood_pack(job, row, column, count);
        i += count;
    }
    return stop_requested() ? Status::interrupted("flow likelihood") : Status::success();
}

template <class T>
Status run(const LikelihoodJob<T>& job) {
    const std::int64_t total = job.rows * job.columns;
    return parallel_for((total + elements_per_task - 1) / elements_per_task, job.num_threads,
                        likelihood_task<T>, const_cast<LikelihoodJob<T>*>(&job));
}

}  // namespace

Status count_likelihood(const LikelihoodJob<float>& job) {
    return run(job);
}
Status count_likelihood(const LikelihoodJob<double>& job) {
    return run(job);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
