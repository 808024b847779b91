// CUDA drivers of the operators of rows: a warp works on one row (or one group of a row), lane k on
// the elements of strand k, so that sums have the bits of the CPU's.
#include "cuda.hpp"

#include "../core/cuda_device.cuh"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int threads_per_block = 256;
static_assert(strands == warp_lanes, "a lane is a strand");

// The tree of the strands: lane k takes that of lane k + 16, then k + 8, ...; all lanes get the
// sum.
HL_DEVICE double warp_sum(double value) {
    for (int half = warp_lanes / 2; half > 0; half /= 2)
        value = value + __shfl_xor_sync(full_warp, value, half);
    return __shfl_sync(full_warp, value, 0);
}

HL_DEVICE double warp_largest(double value) {
    for (int half = warp_lanes / 2; half > 0; half /= 2) {
        const double other = __shfl_xor_sync(full_warp, value, half);
        value = value < other ? other : value;
    }
    return value;
}

HL_DEVICE int warp_lane() {
    return static_cast<int>(threadIdx.x) % warp_lanes;
}

// A row, or a group of it whose elements `indices` name.
template <class T>
struct WarpRow {
    const T* x;
    const std::int64_t* indices;
    std::int64_t count;
    bool magnitudes;

    HL_DEVICE_MEMBER std::int64_t place(std::int64_t j) const {
        return indices != nullptr ? indices[j] : j;
    }
    HL_DEVICE_MEMBER double element(std::int64_t j) const {
        return static_cast<double>(x[place(j)]);
    }
    HL_DEVICE_MEMBER double seen(std::int64_t j) const {
        const double y = element(j);
        return magnitudes ? absolute(y) : y;
    }

    HL_DEVICE_MEMBER RowSummary summary() const {
        double sum = 0.0, largest = -__builtin_huge_val();
        for (std::int64_t j = warp_lane(); j < count; j += warp_lanes) {
            const double y = seen(j);
            sum += y;
            largest = largest < y ? y : largest;
        }
        return {warp_sum(sum), warp_largest(largest)};
    }

    HL_DEVICE_MEMBER Active active(double theta) const {
        double sum = 0.0, number = 0.0;
        for (std::int64_t j = warp_lane(); j < count; j += warp_lanes) {
            const double y = seen(j);
            sum += y >= theta ? y : 0.0;
            number += y >= theta ? 1.0 : 0.0;
        }
        return {warp_sum(sum), warp_sum(number)};
    }

    HL_DEVICE_MEMBER double changed(std::int64_t j, double soft) const {
        return soft_threshold(element(j), soft);
    }

    // As norm_of in cpu_sums.hpp.
    HL_DEVICE_MEMBER double norm(double soft) const {
        double sum = 0.0, scale = 0.0, scaled = 0.0;
        for (std::int64_t j = warp_lane(); j < count; j += warp_lanes) {
            const double y = changed(j, soft);
            sum += y * y;
        }
        sum = warp_sum(sum);
        if (squares_are_safe(sum) || sum != sum) return square_root(sum);
        for (std::int64_t j = warp_lane(); j < count; j += warp_lanes) {
            const double a = absolute(element(j));
            scale = scale < a ? a : scale;
        }
        scale = warp_largest(scale);
        if (scale == 0.0) return 0.0;
        for (std::int64_t j = warp_lane(); j < count; j += warp_lanes) {
            const double y = changed(j, soft) / scale;
            scaled += y * y;
        }
        return scale * square_root(warp_sum(scaled));
    }

    template <class F>
    HL_DEVICE_MEMBER void write(T* out, const F& f) const {
        for (std::int64_t j = warp_lane(); j < count; j += warp_lanes)
            out[place(j)] = static_cast<T>(f(element(j)));
    }
};

template <class T>
HL_DEVICE void project(const WarpRow<T>& row, RowOperation operation, double number, T* out) {
    const RowSummary summary = row.summary();
    const bool inside = operation != RowOperation::simplex && summary.sum <= number;
    const double theta =
        inside ? 0.0 : simplex_threshold(row, summary, static_cast<double>(row.count), number);
    if (operation == RowOperation::simplex) {
        row.write(out, [=](double y) { return y - theta < 0.0 ? 0.0 : y - theta; });
    } else if (operation == RowOperation::l1_ball) {
        row.write(out, [=](double y) { return soft_threshold(y, theta); });
    } else {
        row.write(out, [=](double y) { return inside ? 0.0 : clip(y, -theta, theta); });
    }
}

template <class T>
HL_DEVICE void into_cone(const T* v, std::int64_t count, T* out) {
    const WarpRow<T> rest{v + 1, nullptr, count - 1, false};
    const double height = static_cast<double>(v[0]);
    const double norm = rest.norm(0.0);
    double factor = 1.0, top = height;
    if (norm <= -height) {
        factor = top = 0.0;
    } else if (norm > height) {
        top = 0.5 * (height + norm);
        factor = top / norm;
    }
    __syncwarp();  // every lane has read the height
    if (warp_lane() == 0) out[0] = static_cast<T>(top);
    rest.write(out + 1, [=](double y) { return y * factor; });
}

template <class T>
__global__ void __launch_bounds__(threads_per_block) rows(RowJob<T> job) {
    const std::int64_t stride = grid_threads() / warp_lanes;
    for (std::int64_t row = grid_thread() / warp_lanes; row < job.rows; row += stride) {
        const T* const v = job.v + row * job.columns;
        T* const out = job.out + row * job.columns;
        const double number = job.numbers[row * job.number_stride];
        const bool magnitudes = job.operation != RowOperation::simplex;
        const WarpRow<T> view{v, nullptr, job.columns, magnitudes};
        if (job.operation == RowOperation::l2_ball) {
            const double factor = ball_factor(view.norm(0.0), number);
            view.write(out, [=](double y) { return y * factor; });
        } else if (job.operation == RowOperation::cone) {
            into_cone(v, job.columns, out);
        } else {
            project(view, job.operation, number, out);
        }
    }
}

template <class T>
__global__ void __launch_bounds__(threads_per_block) groups(GroupJob<T> job) {
    const std::int64_t stride = grid_threads() / warp_lanes;
    const std::int64_t total = job.rows * job.groups;
    for (std::int64_t i = grid_thread() / warp_lanes; i < total; i += stride) {
        const std::int64_t row = i / job.groups, g = i % job.groups;
        const std::int64_t begin = job.offsets[g], count = job.offsets[g + 1] - begin;
        const bool in_order = job.indices == nullptr;
        const std::int64_t shift = row * job.columns + (in_order ? begin : 0);
        const WarpRow<T> view{job.v + shift, in_order ? nullptr : job.indices + begin, count,
                              false};
        const double soft = job.soft[row * job.number_stride];
        const double shrink = job.shrink[row * job.number_stride];
        const double factor = shrink_factor(view.norm(soft), shrink * job.weights[g]);
        view.write(job.out + shift, [=](double y) { return soft_threshold(y, soft) * factor; });
    }
}

LaunchShape warps(std::int64_t count) {
    return shape_for(count * warp_lanes, threads_per_block);
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

hl::Status hl_cuda_prox_rows_f32(const hl::RowJob<float>* job, const hl::CudaCall* call) {
    return hl::launch("prox", hl::rows<float>, hl::warps(job->rows), *call, *job);
}
hl::Status hl_cuda_prox_rows_f64(const hl::RowJob<double>* job, const hl::CudaCall* call) {
    return hl::launch("prox", hl::rows<double>, hl::warps(job->rows), *call, *job);
}
hl::Status hl_cuda_prox_groups_f32(const hl::GroupJob<float>* job, const hl::CudaCall* call) {
    return hl::launch("prox", hl::groups<float>, hl::warps(job->rows * job->groups), *call, *job);
}
hl::Status hl_cuda_prox_groups_f64(const hl::GroupJob<double>* job, const hl::CudaCall* call) {
    return hl::launch("prox", hl::groups<double>, hl::warps(job->rows * job->groups), *call, *job);
}
