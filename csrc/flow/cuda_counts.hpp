// The CUDA drivers of counts. All pointers are device memory; the work is queued on the caller's
// stream.
#pragma once

#include "../core/cuda_launch.hpp"
#include "counts_kernels.hpp"

extern "C" {
hl::Status hl_cuda_flow_negative_binomial_f32(const hl::CountJob<float>*, std::int32_t*,
                                              const hl::CudaCall*);
hl::Status hl_cuda_flow_negative_binomial_f64(const hl::CountJob<double>*, std::int32_t*,
                                              const hl::CudaCall*);
hl::Status hl_cuda_flow_poisson_f32(const hl::CountJob<float>*, std::int32_t*, const hl::CudaCall*);
hl::Status hl_cuda_flow_poisson_f64(const hl::CountJob<double>*, std::int32_t*,
                                    const hl::CudaCall*);
hl::Status hl_cuda_flow_bernoulli_f32(const hl::CountJob<float>*, std::int32_t*,
                                      const hl::CudaCall*);
hl::Status hl_cuda_flow_bernoulli_f64(const hl::CountJob<double>*, std::int32_t*,
                                      const hl::CudaCall*);
hl::Status hl_cuda_flow_gamma_f32(const hl::CountJob<float>*, float*, const hl::CudaCall*);
hl::Status hl_cuda_flow_gamma_f64(const hl::CountJob<double>*, double*, const hl::CudaCall*);
hl::Status hl_cuda_flow_likelihood_f32(const hl::LikelihoodJob<float>*, const hl::CudaCall*);
hl::Status hl_cuda_flow_likelihood_f64(const hl::LikelihoodJob<double>*, const hl::CudaCall*);
}
