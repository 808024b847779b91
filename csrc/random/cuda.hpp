// The CUDA drivers that fill arrays with random numbers. All pointers, those in the grid too, are
// device memory; the work is queued on the caller's stream.
#pragma once

#include "../core/cuda_launch.hpp"
#include "kernels.hpp"

extern "C" {
hl::Status hl_cuda_random_normals_f32(const hl::RandomGrid*, float* out, const hl::CudaCall*);
hl::Status hl_cuda_random_normals_f64(const hl::RandomGrid*, double* out, const hl::CudaCall*);
hl::Status hl_cuda_random_uniforms_f32(const hl::RandomGrid*, float* out, const hl::CudaCall*);
hl::Status hl_cuda_random_uniforms_f64(const hl::RandomGrid*, double* out, const hl::CudaCall*);
hl::Status hl_cuda_random_philox(const std::uint32_t* counters, const std::uint32_t* keys,
                                 std::int64_t count, std::uint32_t* out, const hl::CudaCall*);
}
