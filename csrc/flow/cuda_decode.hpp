// The CUDA drivers of decoding. All pointers of a job are device memory, `hidden` holds the logits,
// and `weight` and `blocks` are not read; `row_counts` is always written.
#pragma once

#include "../core/cuda_launch.hpp"
#include "counts_kernels.hpp"

extern "C" {
hl::Status hl_cuda_flow_decode_f32(const hl::DecodeJob<float>*, const hl::CudaCall*);
hl::Status hl_cuda_flow_decode_f64(const hl::DecodeJob<double>*, const hl::CudaCall*);
}
