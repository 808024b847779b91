// CUDA drivers of decoding: from logits to means and counts, a block of threads for each cell. The
// means are made where they are drawn from, and only counts are written.
#include "cuda_decode.hpp"

#include "../nn/cuda_block.cuh"
#include "cuda_laws.cuh"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int decode_threads = 256;
constexpr std::int64_t decode_shared = decode_threads * static_cast<std::int64_t>(sizeof(double));

// The logits of a cell.
template <class T>
struct Logits {
    const T* row;
    const T* bias;
    HL_DEVICE_MEMBER double operator()(std::int64_t column) const {
        const double h = static_cast<double>(read_only(row + column));
        return bias != nullptr ? h + static_cast<double>(read_only(bias + column)) : h;
    }
};

// mu = L softmax(h). `total` is the sum of exp(h - largest), in a fixed order.
template <class T>
struct SoftmaxMean {
    Logits<T> logits;
    double largest, total, scale;

    HL_DEVICE_MEMBER SoftmaxMean(const DecodeJob<T>& job, std::int64_t row, double* shared)
        : logits{job.hidden + row * job.columns, job.bias} {
        double top = -1.7976931348623157e308, sum = 0.0;
        for (std::int64_t j = threadIdx.x; j < job.columns; j += blockDim.x) {
            const double h = logits(j);
            top = h > top ? h : top;
        }
        largest = block_largest(top, shared);
        for (std::int64_t j = threadIdx.x; j < job.columns; j += blockDim.x)
            sum += exp_or_zero(logits(j) - largest);
        total = block_sum(sum, shared);
        scale = job.sizes[row] / total;
    }
    HL_DEVICE_MEMBER bool is_valid() const { return total > 0.0 && total < 0x1p1000; }
    HL_DEVICE_MEMBER double operator()(std::int64_t column) const {
        return exp_or_zero(logits(column) - largest) * scale;
    }
};

// sigmoid(h).
template <class T>
struct SigmoidMean {
    Logits<T> logits;
    double difference;  // 0 where all logits are finite

    HL_DEVICE_MEMBER SigmoidMean(const DecodeJob<T>& job, std::int64_t row, double* shared)
        : logits{job.hidden + row * job.columns, job.bias} {
        double sum = 0.0;
        for (std::int64_t j = threadIdx.x; j < job.columns; j += blockDim.x) {
            const double h = logits(j);
            sum += h - h;
        }
        difference = block_sum(sum, shared);
    }
    HL_DEVICE_MEMBER bool is_valid() const { return difference == 0.0; }
    HL_DEVICE_MEMBER double operator()(std::int64_t column) const {
        return sigmoid(logits(column));
    }
};

template <class Law, class Mean, class T>
HL_DEVICE std::int64_t draw_row(const DecodeJob<T>& job, const Mean& mean, std::int64_t row) {
    const CountAddress at{philox_key(job.seed), static_cast<std::uint64_t>(job.first_row + row),
                          job.step};
    const std::int64_t theta_row = job.theta_of != nullptr ? job.theta_of[row] : 0;
    const double* const theta =
        job.theta != nullptr ? job.theta + theta_row * job.columns : nullptr;
    const std::int64_t blocks = (job.columns + Law::columns - 1) / Law::columns;
    std::int64_t nonzeros = 0;
    for (std::int64_t block = threadIdx.x; block < blocks; block += blockDim.x) {
        const std::int64_t begin = block * Law::columns, left = job.columns - begin;
        const std::int64_t count = left < Law::columns ? left : std::int64_t{Law::columns};
        std::int32_t* const out = job.counts + row * job.columns + begin;
        Law::draw(
            at, block, count, mean,
            [&](std::int64_t column) { return theta != nullptr ? theta[column] : 1.0; }, out);
        for (int i = 0; i < count; ++i)
            nonzeros += out[i] != 0 ? 1 : 0;
    }
    return nonzeros;
}

// `row_counts` takes the number of nonzeros of each cell, or -1 where its logits aren't finite.
template <class Law, class Mean, class T>
__global__ void __launch_bounds__(decode_threads) decode(DecodeJob<T> job) {
    HL_DYNAMIC_SHARED(memory);
    double* const shared = reinterpret_cast<double*>(memory);
    for (std::int64_t row = blockIdx.x; row < job.rows; row += gridDim.x) {
        const Mean mean(job, row, shared);
        std::int64_t nonzeros = 0;
        if (mean.is_valid() && job.counts != nullptr) nonzeros = draw_row<Law>(job, mean, row);
        if (mean.is_valid() && job.means != nullptr)
            for (std::int64_t j = threadIdx.x; j < job.columns; j += blockDim.x)
                job.means[row * job.columns + j] = static_cast<T>(mean(j));
        const double sum = block_sum(static_cast<double>(nonzeros), shared);
        if (threadIdx.x == 0)
            job.row_counts[row] = mean.is_valid() ? static_cast<std::int64_t>(sum) : -1;
    }
}

template <class T>
Status run(const DecodeJob<T>& job, const CudaCall& call) {
    const LaunchShape shape{job.rows, decode_threads, decode_shared};
    switch (job.head) {
        case CountHead::negative_binomial:
            return launch("flow decode", decode<NegativeBinomial, SoftmaxMean<T>, T>, shape, call,
                          job);
        case CountHead::poisson:
            return launch("flow decode", decode<Poisson, SoftmaxMean<T>, T>, shape, call, job);
        default:
            return launch("flow decode", decode<Bernoulli, SigmoidMean<T>, T>, shape, call, job);
    }
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

hl::Status hl_cuda_flow_decode_f32(const hl::DecodeJob<float>* job, const hl::CudaCall* call) {
    return hl::run(*job, *call);
}
hl::Status hl_cuda_flow_decode_f64(const hl::DecodeJob<double>* job, const hl::CudaCall* call) {
    return hl::run(*job, *call);
}
