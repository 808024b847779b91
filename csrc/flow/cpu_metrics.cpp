// Distances of four rows of x to sixteen points of y at a time, every sum in the order of the
// coordinates: the same bits on all levels.
#include "metrics_kernels.hpp"

#include "../core/interrupt.hpp"
#include "../core/math.hpp"
#include "../core/pool.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int lanes = LaneTraits<f64v>::lanes;
constexpr int packs = static_cast<int>(point_group) / lanes;
constexpr int rows_at_once = 4;

template <Distance distance>
HL_INLINE f64v term(f64v difference) {
    if constexpr (distance == Distance::squared) {
        return difference * difference;
    } else {
        return difference < 0.0 ? f64v(-difference) : difference;
    }
}

// Distances of rows row, ..., row + 3 to the points of a group; rows beyond the last repeat it.
template <Distance distance>
HL_INLINE void group_distances(const PairJob& job, std::int64_t row, std::int64_t group,
                               f64v (&sums)[rows_at_once][packs]) {
    const double* x[rows_at_once];
    for (int r = 0; r < rows_at_once; ++r) {
        const std::int64_t own = row + r < job.x_count ? row + r : job.x_count - 1;
        x[r] = job.x + own * job.dim;
        for (int q = 0; q < packs; ++q)
            sums[r][q] = f64v{};
    }
    const double* y = job.y + group * point_group;
    for (std::int64_t k = 0; k < job.dim; ++k, y += job.stride) {
        for (int q = 0; q < packs; ++q) {
            const f64v point = load<f64v>(y + q * lanes);
            for (int r = 0; r < rows_at_once; ++r)
                sums[r][q] += term<distance>(f64v(x[r][k] - point));
        }
    }
}

// sum_s exp(scales[s] d); what is below exp(-700) counts as nothing.
HL_INLINE f64v kernel_value(const KernelSumJob& job, f64v squared) {
    f64v total{};
    for (int s = 0; s < job.num_scales; ++s) {
        const f64v exponent = job.scales[s] * squared;
        const auto inside = exponent >= -700.0;
        if (!any_lane(inside)) continue;
        total += inside ? exp_bounded(f64v(inside ? exponent : f64v{})) : f64v{};
    }
    return total;
}

Status kernel_task(void* context, std::int64_t task) {
    const KernelSumJob& job = *static_cast<const KernelSumJob*>(context);
    const PairJob& pairs = job.pairs;
    const std::int64_t begin = task * kernel_rows;
    const std::int64_t end =
        begin + kernel_rows < pairs.x_count ? begin + kernel_rows : pairs.x_count;
    f64v strands[packs] = {};
    for (std::int64_t row = begin; row < end; row += rows_at_once) {
        const std::int64_t own = job.symmetric ? row / point_group : 0;
        for (std::int64_t group = own; group * point_group < pairs.y_count; ++group) {
            f64v sums[rows_at_once][packs];
            group_distances<Distance::squared>(pairs, row, group, sums);
            const double weight = job.symmetric && group > own ? 2.0 : 1.0;
            for (int r = 0; r < rows_at_once && row + r < end; ++r)
                for (int q = 0; q < packs; ++q)
                    strands[q] += weight * kernel_value(job, sums[r][q]);
        }
        if (stop_requested()) return Status::interrupted("flow kernel sum");
    }
    double total = 0.0;
    for (int q = 0; q < packs; ++q)
        for (int lane = 0; lane < lanes; ++lane)
            total += strands[q][lane];
    job.partial[task] = total;
    return Status::success();
}

Status kernel_sum(const KernelSumJob& job) {
    return parallel_for((job.pairs.x_count + kernel_rows - 1) / kernel_rows, job.pairs.num_threads,
                        kernel_task, const_cast<KernelSumJob*>(&job));
}

template <Distance distance>
Status distance_task(void* context, std::int64_t task) {
    const DistanceJob& job = *static_cast<const DistanceJob*>(context);
    const PairJob& pairs = job.pairs;
    const std::int64_t row = task * rows_at_once;
    for (std::int64_t group = 0; group * point_group < pairs.y_count; ++group) {
        f64v sums[rows_at_once][packs];
        group_distances<distance>(pairs, row, group, sums);
        const std::int64_t first = group * point_group;
        const std::int64_t left = pairs.y_count - first;
        const std::int64_t count = left < point_group ? left : point_group;
        for (int r = 0; r < rows_at_once && row + r < pairs.x_count; ++r)
            __builtin_memcpy(job.out + (row + r) * pairs.y_count + first, sums[r],
                             static_cast<std::size_t>(count) * sizeof(double));
    }
    return stop_requested() ? Status::interrupted("flow distances") : Status::success();
}

Status distances(const DistanceJob& job) {
    const Task task = job.distance == Distance::squared ? distance_task<Distance::squared>
                                                        : distance_task<Distance::absolute>;
    return parallel_for((job.pairs.x_count + rows_at_once - 1) / rows_at_once,
                        job.pairs.num_threads, task, const_cast<DistanceJob*>(&job));
}

}  // namespace

extern const MetricsTable metrics_table;
const MetricsTable metrics_table = {kernel_sum, distances};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
