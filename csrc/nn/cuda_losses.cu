// Losses and their gradients on the device, one block for each row: values and sums in double.
#include "cuda_block.cuh"
#include "cuda_pass.cuh"
#include "step_counts.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int loss_threads = 128;

// One row at work.
template <class T>
struct Row {
    std::int64_t number, table_row;
    const T* h;
    T* slope;  // of the loss, without the factor weight / rows
    double* shared;
};

template <class T>
HL_DEVICE std::int64_t source_row(const NnLossJob<T>& job, std::int64_t r) {
    return job.table_rows != nullptr ? job.table_rows[r] : r;
}

template <class T>
HL_DEVICE double largest(const NnLossJob<T>& job, const Row<T>& row) {
    T top = row.h[0];
    for (std::int64_t j = threadIdx.x; j < job.width; j += blockDim.x)
        top = row.h[j] > top ? row.h[j] : top;
    return block_largest(static_cast<double>(top), row.shared);
}

// exp(h - top) / sum, with log sum exp h beside it.
template <class T>
struct Softmax {
    T top, inverse;
    double log_sum;

    HL_DEVICE_MEMBER T operator()(T h) const {
        return exp_bounded(clamp(T(h - top), exp_bound<T>)) * inverse;
    }
};

template <class T>
HL_DEVICE Softmax<T> softmax(const NnLossJob<T>& job, const Row<T>& row) {
    Softmax<T> share{static_cast<T>(largest(job, row)), T(1), 0.0};
    double sum = 0;
    for (std::int64_t j = threadIdx.x; j < job.width; j += blockDim.x)
        sum = sum + static_cast<double>(share(row.h[j]));
    sum = block_sum(sum, row.shared);
    share.inverse = static_cast<T>(1.0 / sum);
    share.log_sum = static_cast<double>(share.top) + log_positive(sum);
    return share;
}

template <class T>
HL_DEVICE double regression(const NnLossJob<T>& job, const Row<T>& row) {
    const bool huber = job.kind == NnLossKind::huber;
    const T* const y = job.dense_target + row.table_row * job.width;
    const T delta = static_cast<T>(job.constant), half = T(0.5);
    const T mean = static_cast<T>(1.0 / static_cast<double>(job.width));
    double sum = 0;
    for (std::int64_t j = threadIdx.x; j < job.width; j += blockDim.x) {
        const T d = row.h[j] - y[j];
        const T inside = clamp(d, delta);
        sum = sum + static_cast<double>(huber ? inside * (d - half * inside) : d * d);
        row.slope[j] = mean * (huber ? inside : d + d);
    }
    return block_sum(sum, row.shared) / static_cast<double>(job.width);
}

template <class T>
HL_DEVICE double cross_entropy(const NnLossJob<T>& job, const Row<T>& row) {
    const Softmax<T> share = softmax(job, row);
    const std::int64_t label = job.labels[row.table_row];
    for (std::int64_t j = threadIdx.x; j < job.width; j += blockDim.x)
        row.slope[j] = share(row.h[j]) - (j == label ? T(1) : T(0));
    return share.log_sum - static_cast<double>(row.h[label]);
}

// use(column, x) for the values of the row of the CSR target, each by one thread.
template <class T, class Use>
HL_DEVICE void over_counts(const NnLossJob<T>& job, const Row<T>& row, const Use& use) {
    const NnSparse<T>& table = job.counts[0];
    for (std::int64_t i = table.indptr[row.table_row] + threadIdx.x;
         i < table.indptr[row.table_row + 1]; i += blockDim.x) {
        const T x = table.values[i];
        use(static_cast<std::int64_t>(table.indices[i]),
            table.transform == 4 ? static_cast<T>(x > T(0)) : x);
    }
}

template <class T>
HL_DEVICE double bernoulli(const NnLossJob<T>& job, const Row<T>& row, bool sparse) {
    const T* const target = sparse ? nullptr : job.dense_target + row.table_row * job.width;
    double sum = 0;
    for (std::int64_t j = threadIdx.x; j < job.width; j += blockDim.x) {
        const T h = row.h[j], x = sparse ? T(0) : target[j];
        sum = sum + static_cast<double>(softplus(h) - x * h);
        row.slope[j] = sigmoid(h) - x;
    }
    __syncthreads();
    if (sparse) {
        over_counts(job, row, [&](std::int64_t j, T x) {
            sum = sum - static_cast<double>(x) * static_cast<double>(row.h[j]);
            row.slope[j] = row.slope[j] - x;
        });
    }
    return block_sum(sum, row.shared);
}

template <class T>
HL_DEVICE double poisson(const NnLossJob<T>& job, const Row<T>& row) {
    const Softmax<T> share = softmax(job, row);
    const double total = static_cast<double>(job.counts[0].totals[row.table_row]);
    const double log_scale = log_positive(total) - share.log_sum;
    double loss = 0, sum = 0;
    over_counts(job, row, [&](std::int64_t j, T x) {
        const double count = static_cast<double>(x);
        sum = sum + count;
        loss = loss + (log_factorial(count) - count * (static_cast<double>(row.h[j]) + log_scale));
    });
    sum = block_sum(sum, row.shared);
    for (std::int64_t j = threadIdx.x; j < job.width; j += blockDim.x)
        row.slope[j] = share(row.h[j]) * static_cast<T>(sum);
    __syncthreads();
    over_counts(job, row, [&](std::int64_t j, T x) { row.slope[j] = row.slope[j] - x; });
    return total + block_sum(loss, row.shared);
}

// theta and log theta of each group, then the slopes of all rows by h and by log theta.
template <class T>
struct Scratch {
    T *theta, *log_theta, *theta_slopes, *slopes;

    explicit HL_MEMBER Scratch(const NnLossJob<T>& job) {
        const bool dispersed = job.kind == NnLossKind::negative_binomial;
        const std::int64_t table = dispersed ? job.num_groups * job.width : 0;
        theta = job.scratch;
        log_theta = theta + table;
        theta_slopes = log_theta + table;
        slopes = theta_slopes + (dispersed ? job.rows * job.width : 0);
    }
};

template <class T>
HL_DEVICE std::int64_t group_of(const NnLossJob<T>& job, std::int64_t r) {
    return job.groups == nullptr ? 0 : job.groups[source_row(job, r)];
}

// With q = d log p / d log mu: d log p / d h = q - rho sum q.
template <class T>
HL_DEVICE double negative_binomial(const NnLossJob<T>& job, const Row<T>& row,
                                   const Scratch<T>& scratch) {
    const Softmax<T> share = softmax(job, row);
    const std::int64_t group = group_of(job, row.number) * job.width;
    T* const theta_slope = scratch.theta_slopes + row.number * job.width;
    const T total = job.counts[0].totals[row.table_row];
    const double log_scale = log_positive(static_cast<double>(total)) - share.log_sum;
    double loss = 0;
    for (std::int64_t j = threadIdx.x; j < job.width; j += blockDim.x) {
        const ZeroCount<T> zero = zero_count(T(share(row.h[j]) * total), scratch.theta[group + j]);
        loss = loss + static_cast<double>(zero.loss);
        row.slope[j] = zero.slope;
        theta_slope[j] = zero.theta_slope;
    }
    __syncthreads();
    over_counts(job, row, [&](std::int64_t j, T x) {
        const ZeroCount<double> excess =
            count_excess(static_cast<double>(x), static_cast<double>(row.h[j]) + log_scale,
                         static_cast<double>(scratch.theta[group + j]),
                         static_cast<double>(scratch.log_theta[group + j]));
        loss = loss + excess.loss;
        row.slope[j] = row.slope[j] + static_cast<T>(excess.slope);
        theta_slope[j] = theta_slope[j] + static_cast<T>(excess.theta_slope);
    });
    loss = block_sum(loss, row.shared);
    double sum = 0;
    for (std::int64_t j = threadIdx.x; j < job.width; j += blockDim.x)
        sum = sum + static_cast<double>(row.slope[j]);
    const T slopes = static_cast<T>(block_sum(sum, row.shared));
    for (std::int64_t j = threadIdx.x; j < job.width; j += blockDim.x)
        row.slope[j] = share(row.h[j]) * slopes - row.slope[j];
    return loss;
}

template <class T>
HL_DEVICE double row_loss(const NnLossJob<T>& job, const Row<T>& row, const Scratch<T>& scratch,
                          bool sparse) {
    switch (job.kind) {
        case NnLossKind::mean_squared:
        case NnLossKind::huber:
            return regression(job, row);
        case NnLossKind::cross_entropy:
            return cross_entropy(job, row);
        case NnLossKind::binary_cross_entropy:
            return bernoulli(job, row, sparse);
        case NnLossKind::poisson:
            return poisson(job, row);
        case NnLossKind::negative_binomial:
            break;
    }
    return negative_binomial(job, row, scratch);
}

template <class T>
__global__ void __launch_bounds__(loss_threads)
    losses(NnLossJob<T> job, NnSparse<T> counts, bool sparse, T scale) {
    HL_DYNAMIC_SHARED(memory);
    const Scratch<T> scratch(job);
    job.counts = &counts;
    for (std::int64_t r = blockIdx.x; r < job.rows; r += gridDim.x) {
        const Row<T> row{r, source_row(job, r), job.logits + r * job.stride,
                         scratch.slopes + r * job.width, reinterpret_cast<double*>(memory)};
        const double loss = row_loss(job, row, scratch, sparse);
        if (threadIdx.x == 0) job.row_losses[r] = loss;
        __syncthreads();
        for (std::int64_t j = threadIdx.x; job.gradient != nullptr && j < job.width;
             j += blockDim.x)
            put(job.gradient + r * job.gradient_stride + j, job.adds != 0, row.slope[j] * scale);
        __syncthreads();
    }
}

template <class T>
__global__ void __launch_bounds__(nn_threads) set_theta(NnLossJob<T> job) {
    const Scratch<T> scratch(job);
    const T low = T(lowest_log_theta), high = T(highest_log_theta);
    for (std::int64_t j = grid_thread(); j < job.num_groups * job.width; j += grid_threads()) {
        T x = job.log_theta[j];
        x = x < low ? low : x;
        x = x > high ? high : x;
        scratch.log_theta[j] = x;
        scratch.theta[j] = exp_bounded(x);
    }
}

// The slopes of all rows, in their order, to the row of log theta of each.
template <class T>
__global__ void __launch_bounds__(nn_threads) give_theta_slopes(NnLossJob<T> job, T scale) {
    const Scratch<T> scratch(job);
    for (std::int64_t j = grid_thread(); j < job.width; j += grid_threads()) {
        for (std::int64_t r = 0; r < job.rows; ++r) {
            T* const to = job.log_theta_gradient + group_of(job, r) * job.width + j;
            *to = *to - scale * scratch.theta_slopes[r * job.width + j];
        }
    }
}

template <class T>
Status run(const NnLossJob<T>& job, const CudaCall& call) {
    const bool dispersed = job.kind == NnLossKind::negative_binomial;
    Status status = Status::success();
    if (dispersed)
        status = launch("nn_loss", set_theta<T>, shape_for(job.num_groups * job.width, nn_threads),
                        call, job);
    if (!status.ok()) return status;
    const T scale = static_cast<T>(job.weight / static_cast<double>(job.mean_rows));
    const NnSparse<T> counts = job.counts != nullptr ? *job.counts : NnSparse<T>{};
    constexpr std::int64_t shared = loss_threads * static_cast<std::int64_t>(sizeof(double));
    status = launch("nn_loss", losses<T>, LaunchShape{job.rows, loss_threads, shared}, call, job,
                    counts, job.counts != nullptr, scale);
    if (!status.ok() || !dispersed || job.log_theta_gradient == nullptr) return status;
    return launch("nn_loss", give_theta_slopes<T>, shape_for(job.width, nn_threads), call, job,
                  scale);
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

hl::Status hl_cuda_nn_loss_f32(const hl::NnLossJob<float>* job, const hl::CudaCall* call) {
    return hl::run(*job, *call);
}
hl::Status hl_cuda_nn_loss_f64(const hl::NnLossJob<double>* job, const hl::CudaCall* call) {
    return hl::run(*job, *call);
}
