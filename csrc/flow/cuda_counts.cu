// CUDA drivers of counts: one thread for each block of words, which serves one, two or four
// columns.
#include "cuda_counts.hpp"

#include "cuda_laws.cuh"
#include "step_likelihood.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int threads_per_block = 128;

template <class T>
HL_DEVICE double value_at(const CountParameter<T>& parameter, std::int64_t row,
                          std::int64_t column) {
    return static_cast<double>(
        read_only(parameter.data + row * parameter.row_stride + column * parameter.column_stride));
}

template <class T>
HL_DEVICE CountAddress address_of(const CountJob<T>& job, std::int64_t row) {
    const std::int64_t number =
        job.numbers != nullptr ? read_only(job.numbers + row) : job.first_row + row;
    return {philox_key(job.seed), static_cast<std::uint64_t>(number), job.step};
}

struct Gamma {
    static constexpr int columns = 1;
    template <class First, class Second, class T>
    static HL_DEVICE_MEMBER void draw(const CountAddress& at, std::int64_t column, std::int64_t,
                                      const First& first, const Second& second, T* out) {
        const double g = gamma_variate(at, static_cast<std::uint64_t>(column), first(column));
        out[0] = static_cast<T>(g * second(column));
    }
};

template <class Law, class T, class O>
__global__ void __launch_bounds__(threads_per_block) counts(CountJob<T> job, O* out) {
    const std::int64_t blocks = (job.columns + Law::columns - 1) / Law::columns;
    for (std::int64_t i = grid_thread(); i < job.rows * blocks; i += grid_threads()) {
        const std::int64_t row = i / blocks, block = i % blocks;
        const std::int64_t left = job.columns - block * Law::columns;
        Law::draw(
            address_of(job, row), block, left < Law::columns ? left : std::int64_t{Law::columns},
            [&](std::int64_t column) { return value_at(job.first, row, column); },
            [&](std::int64_t column) { return value_at(job.second, row, column); },
            out + row * job.columns + block * Law::columns);
    }
}

template <class T>
__global__ void __launch_bounds__(threads_per_block) likelihoods(LikelihoodJob<T> job) {
    for (std::int64_t i = grid_thread(); i < job.rows * job.columns; i += grid_threads()) {
        const std::int64_t row = i / job.columns, column = i % job.columns;
        const Likelihood<double> found =
            likelihood(value_at(job.counts, row, column), clamp_mean(value_at(job.mu, row, column)),
                       clamp_dispersion(value_at(job.theta, row, column)));
        job.value[i] = static_cast<T>(found.value);
        if (job.mu_slope != nullptr) job.mu_slope[i] = static_cast<T>(found.mu_slope);
        if (job.theta_slope != nullptr) job.theta_slope[i] = static_cast<T>(found.theta_slope);
    }
}

template <class Law, class T, class O>
Status run(const CountJob<T>& job, O* out, const CudaCall& call) {
    const std::int64_t blocks = ceil_div(job.columns, Law::columns);
    return launch("flow counts", counts<Law, T, O>, shape_for(job.rows * blocks, threads_per_block),
                  call, job, out);
}

template <class T>
Status run(const LikelihoodJob<T>& job, const CudaCall& call) {
    return launch("flow likelihood", likelihoods<T>,
                  shape_for(job.rows * job.columns, threads_per_block), call, job);
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

#define HL_DEFINE_COUNTS(law, Law, suffix, T, O)                                 \
    hl::Status hl_cuda_flow_##law##_##suffix(const hl::CountJob<T>* job, O* out, \
                                             const hl::CudaCall* call) {         \
        return hl::run<hl::Law>(*job, out, *call);                               \
    }
HL_DEFINE_COUNTS(negative_binomial, NegativeBinomial, f32, float, std::int32_t)
HL_DEFINE_COUNTS(negative_binomial, NegativeBinomial, f64, double, std::int32_t)
HL_DEFINE_COUNTS(poisson, Poisson, f32, float, std::int32_t)
HL_DEFINE_COUNTS(poisson, Poisson, f64, double, std::int32_t)
HL_DEFINE_COUNTS(bernoulli, Bernoulli, f32, float, std::int32_t)
HL_DEFINE_COUNTS(bernoulli, Bernoulli, f64, double, std::int32_t)
HL_DEFINE_COUNTS(gamma, Gamma, f32, float, float)
HL_DEFINE_COUNTS(gamma, Gamma, f64, double, double)

hl::Status hl_cuda_flow_likelihood_f32(const hl::LikelihoodJob<float>* job,
                                       const hl::CudaCall* call) {
    return hl::run(*job, *call);
}
hl::Status hl_cuda_flow_likelihood_f64(const hl::LikelihoodJob<double>* job,
                                       const hl::CudaCall* call) {
    return hl::run(*job, *call);
}
