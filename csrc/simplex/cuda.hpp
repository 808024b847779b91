// The CUDA drivers of simplex. Pointers are device memory; the work is queued on the caller's
// stream. A call queues as many of the steps as one launch should take and tells their number.
#pragma once

#include "../core/cuda_launch.hpp"
#include "kernels.hpp"

namespace hl {

template <class T, template <class> class Problem>
using SimplexCudaKernel = Status (*)(const SimplexChains<T>* chains, const Problem<T>* problem,
                                     const CudaCall* call, std::int64_t* steps_done);

// Bytes of workspace that a call on these chains needs.
template <class T, template <class> class Problem>
using SimplexCudaWorkspace = std::int64_t (*)(const SimplexChains<T>* chains,
                                              const Problem<T>* problem);

template <class T, template <class> class Problem>
struct SimplexCudaEntry {
    SimplexCudaKernel<T, Problem> run;
    SimplexCudaWorkspace<T, Problem> workspace;
};

// Beyond this much memory chains take turns.
constexpr std::int64_t simplex_workspace_limit = std::int64_t{256} << 20;

// Steps of one launch when a thread spends `cost` operations on each: below 0.2 s even where one
// thread sets the pace. An operation in double counts as 16.
inline std::int64_t simplex_launch_steps(std::int64_t first_step, std::int64_t num_steps,
                                         std::int64_t turns, double cost) {
    return launch_steps(first_step, num_steps, 5e7 / (cost * static_cast<double>(turns)));
}

}  // namespace hl

#define HL_SIMPLEX_CUDA_DECLARE(name, Problem)                                               \
    hl::Status hl_cuda_simplex_##name##_f32(const hl::SimplexChains<float>*,                 \
                                            const hl::Problem<float>*, const hl::CudaCall*,  \
                                            std::int64_t*);                                  \
    hl::Status hl_cuda_simplex_##name##_f64(const hl::SimplexChains<double>*,                \
                                            const hl::Problem<double>*, const hl::CudaCall*, \
                                            std::int64_t*);                                  \
    std::int64_t hl_cuda_simplex_##name##_workspace_f32(const hl::SimplexChains<float>*,     \
                                                        const hl::Problem<float>*);          \
    std::int64_t hl_cuda_simplex_##name##_workspace_f64(const hl::SimplexChains<double>*,    \
                                                        const hl::Problem<double>*);

extern "C" {
HL_SIMPLEX_CUDA_DECLARE(polynomial, SimplexPolynomial)
HL_SIMPLEX_CUDA_DECLARE(quadratic, SimplexQuadratic)
HL_SIMPLEX_CUDA_DECLARE(ridge_sum, SimplexRidgeSum)
HL_SIMPLEX_CUDA_DECLARE(given, SimplexGiven)

// Projection of rows in place; workspace as large as x, on which rows are transposed.
hl::Status hl_cuda_simplex_project_f32(float* x, std::int64_t rows, std::int64_t dim,
                                       const hl::CudaCall* call);
hl::Status hl_cuda_simplex_project_f64(double* x, std::int64_t rows, std::int64_t dim,
                                       const hl::CudaCall* call);
}

#undef HL_SIMPLEX_CUDA_DECLARE

// Defines the four entry points of a kernel over templates run<T>(chains, problem, call, done) and
// workspace<T>(chains, problem).
#define HL_SIMPLEX_CUDA_DEFINE(name, Problem, run, workspace)                          \
    extern "C" hl::Status hl_cuda_simplex_##name##_f32(                                \
        const hl::SimplexChains<float>* chains, const hl::Problem<float>* problem,     \
        const hl::CudaCall* call, std::int64_t* steps_done) {                          \
        return run<float>(*chains, *problem, *call, steps_done);                       \
    }                                                                                  \
    extern "C" hl::Status hl_cuda_simplex_##name##_f64(                                \
        const hl::SimplexChains<double>* chains, const hl::Problem<double>* problem,   \
        const hl::CudaCall* call, std::int64_t* steps_done) {                          \
        return run<double>(*chains, *problem, *call, steps_done);                      \
    }                                                                                  \
    extern "C" std::int64_t hl_cuda_simplex_##name##_workspace_f32(                    \
        const hl::SimplexChains<float>* chains, const hl::Problem<float>* problem) {   \
        return workspace<float>(*chains, *problem);                                    \
    }                                                                                  \
    extern "C" std::int64_t hl_cuda_simplex_##name##_workspace_f64(                    \
        const hl::SimplexChains<double>* chains, const hl::Problem<double>* problem) { \
        return workspace<double>(*chains, *problem);                                   \
    }
