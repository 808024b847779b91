// The CUDA drivers of admm.solve for linear models with one output. All pointers are device memory;
// the work is queued on the caller's stream.
#pragma once

#include "../core/cuda_launch.hpp"
#include "solve_kernels.hpp"

namespace hl {

template <class T>
struct CudaAdmmGradient {
    AdmmGradient<T> job;  // its model's `layers` is not read
    std::int64_t columns;
    const std::int64_t* first_row;  // (num_tasks + 1,) where the rows of each task begin
    std::int64_t num_rows;          // of all tasks together
    std::int64_t* ids;              // (num_rows,) out: the matrix rows
    T* slopes;                      // (num_rows,) out
    T* losses;                      // (num_rows,) out
    T* strands;                     // (num_tasks, columns, 16) where clients have tiles
};

}  // namespace hl

extern "C" {
hl::Status hl_cuda_admm_gradient_f32(const hl::CudaAdmmGradient<float>*, int dense,
                                     const hl::CudaCall*);
hl::Status hl_cuda_admm_gradient_f64(const hl::CudaAdmmGradient<double>*, int dense,
                                     const hl::CudaCall*);
hl::Status hl_cuda_admm_round_f32(const hl::AdmmRound<float>*, const hl::CudaCall*);
hl::Status hl_cuda_admm_round_f64(const hl::AdmmRound<double>*, const hl::CudaCall*);
}
