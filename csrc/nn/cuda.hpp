// The CUDA drivers of small networks. What a pass points to lies on the device: the matrices of the
// arena, statistics, parameters, buffers and what the tables hold. The lists of those pointers, the
// program and the plan are the host's. Work is queued on the caller's stream; products are
// cuBLAS's.
//
// Of the arena's entries only `values` is used: room for the batch of a CSR table written out as a
// matrix (rows, columns), for which a product is the fastest thing a device can do.
#pragma once

#include "../core/cublas.hpp"
#include "kernels.hpp"

namespace hl {

// Elements of scratch for a loss: slopes of every row, by h and by log theta, and theta itself.
inline std::int64_t nn_cuda_loss_scratch(NnLossKind kind, std::int64_t rows, std::int64_t width,
                                         std::int64_t groups) {
    return kind == NnLossKind::negative_binomial ? (2 * groups + 2 * rows) * width : rows * width;
}

// Rows of a dense table, of a batch: target[r] = source[rows[r]].
template <class T>
struct NnGather {
    const T* source;
    const std::int64_t* rows;
    std::int64_t count, width;
    T* target;
};

}  // namespace hl

extern "C" {
hl::Status hl_cuda_nn_forward_f32(const hl::NnPass<float>*, const hl::CudaCall*);
hl::Status hl_cuda_nn_forward_f64(const hl::NnPass<double>*, const hl::CudaCall*);
hl::Status hl_cuda_nn_backward_f32(const hl::NnPass<float>*, const hl::CudaCall*);
hl::Status hl_cuda_nn_backward_f64(const hl::NnPass<double>*, const hl::CudaCall*);
hl::Status hl_cuda_nn_loss_f32(const hl::NnLossJob<float>*, const hl::CudaCall*);
hl::Status hl_cuda_nn_loss_f64(const hl::NnLossJob<double>*, const hl::CudaCall*);
// partial_sums and norm are device memory.
hl::Status hl_cuda_nn_update_f32(const hl::NnUpdateJob<float>*, const hl::CudaCall*);
hl::Status hl_cuda_nn_update_f64(const hl::NnUpdateJob<double>*, const hl::CudaCall*);
hl::Status hl_cuda_nn_gather_f32(const hl::NnGather<float>*, const hl::CudaCall*);
hl::Status hl_cuda_nn_gather_f64(const hl::NnGather<double>*, const hl::CudaCall*);
}
