// The CUDA drivers of the step kernels and of Newton-Schulz. All pointers are device memory; the
// work is queued on the caller's stream.
#pragma once

#include "../core/cuda_launch.hpp"
#include "step_kernels.hpp"

namespace hl {

// Elements of one tensor that one block of threads takes at a time.
constexpr std::int64_t cuda_chunk = 4096;

// `list.first_task` counts chunks of `cuda_chunk` elements here; `chunks` is their number. All
// arrays of the job are device memory, `job.scalars` too. Nothing happens when *found_inf is not 0.
template <class T>
struct CudaSisa {
    SisaJob<T> job;
    std::int64_t chunks;
    const float* found_inf;
};

template <class T>
struct CudaMomentum {
    MomentumJob<T> job;
    std::int64_t chunks;
    const float* found_inf;
};

}  // namespace hl

extern "C" {
hl::Status hl_cuda_admm_sisa_f32(const hl::CudaSisa<float>*, const hl::CudaCall*);
hl::Status hl_cuda_admm_sisa_f64(const hl::CudaSisa<double>*, const hl::CudaCall*);
hl::Status hl_cuda_admm_momentum_f32(const hl::CudaMomentum<float>*, const hl::CudaCall*);
hl::Status hl_cuda_admm_momentum_f64(const hl::CudaMomentum<double>*, const hl::CudaCall*);
}
