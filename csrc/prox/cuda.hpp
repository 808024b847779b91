// The CUDA drivers of the proximal operators. All pointers are device memory; the work is queued on
// the caller's stream.
#pragma once

#include "../core/cuda_launch.hpp"
#include "kernels.hpp"

extern "C" {
hl::Status hl_cuda_prox_elements_f32(const hl::ElementJob<float>*, const hl::CudaCall*);
hl::Status hl_cuda_prox_elements_f64(const hl::ElementJob<double>*, const hl::CudaCall*);
hl::Status hl_cuda_prox_rows_f32(const hl::RowJob<float>*, const hl::CudaCall*);
hl::Status hl_cuda_prox_rows_f64(const hl::RowJob<double>*, const hl::CudaCall*);
hl::Status hl_cuda_prox_groups_f32(const hl::GroupJob<float>*, const hl::CudaCall*);
hl::Status hl_cuda_prox_groups_f64(const hl::GroupJob<double>*, const hl::CudaCall*);
}
