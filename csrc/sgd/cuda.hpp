// The CUDA drivers of sgd. Pointers are device memory; the work is queued on the caller's stream.
//
// A call queues as many of the steps as one launch should take and tells their number, so that the
// caller can look up between launches.
#pragma once

#include "../core/cuda_launch.hpp"
#include "kernels.hpp"

namespace hl {

template <class T, template <class> class Problem>
using SgdCudaKernel = Status (*)(const SgdChains<T>* chains, const Problem<T>* problem,
                                 const CudaCall* call, std::int64_t* steps_done);

// Bytes of workspace that a call on these chains can use.
template <class T>
using SgdCudaWorkspace = std::int64_t (*)(const SgdChains<T>* chains);

template <class T, template <class> class Problem>
struct SgdCudaEntry {
    SgdCudaKernel<T, Problem> run;
    SgdCudaWorkspace<T> workspace;
};

// Workspace beyond this would only save launches.
constexpr std::int64_t sgd_workspace_limit = std::int64_t{64} << 20;

// Bytes for `count` pieces of work that need `bytes` each: for all of them, for as many as the
// limit allows, but for one at least.
inline std::int64_t sgd_workspace(std::int64_t count, std::int64_t bytes) {
    const std::int64_t room = sgd_workspace_limit / bytes;
    return bytes * (count < room ? count : (room > 1 ? room : 1));
}

// Steps of one launch for a grid of `threads` that spend `cost` operations each on a step. An
// operation is one in float; cheap devices do one in double in the time of 64. The bounds keep a
// launch below 0.2 s on a slow device, whether the grid fills it or one thread sets the pace.
inline std::int64_t sgd_launch_steps(std::int64_t first_step, std::int64_t num_steps,
                                     std::int64_t threads, double cost) {
    const double by_throughput = 4e11 / (cost * static_cast<double>(threads));
    const double by_latency = 1e8 / cost;
    return launch_steps(first_step, num_steps,
                        by_throughput < by_latency ? by_throughput : by_latency);
}

template <class T>
constexpr double sgd_operation_cost = sizeof(T) == 8 ? 64.0 : 1.0;

// What it costs to add one float or double to a sum in double.
constexpr double sgd_sum_cost = 2 * 64.0;

// What the statistics of one averaged step cost, about.
template <class T>
double sgd_statistics_cost(const SgdChains<T>& chains) {
    const SgdStatistics& asked = chains.statistics;
    const double d = static_cast<double>(chains.dim);
    const double size = d * static_cast<double>(chains.num_step_sizes + 1);
    double sums = size * (asked.squares != nullptr ? 4 : 1);
    if (asked.second != nullptr) sums += size * (asked.full ? d / 2 : 2);
    if (asked.plug_hessian != nullptr) sums += 3 * d * d;
    return sgd_sum_cost * sums;
}

// Copies beyond what a kernel holds run in groups of nearly equal size, which draw the same noise.
inline int sgd_next_group(std::int64_t copies_left, int most) {
    return static_cast<int>(ceil_div(copies_left, ceil_div(copies_left, most)));
}

template <int J>
struct SgdGroup {
    static constexpr int size = J;
};

// run(SgdGroup<J>{}, first copy) for group after group of at most `most` copies (1, 2 or 4).
template <int most, class Run>
Status sgd_run_groups(std::int64_t copies, Run run) {
    for (std::int64_t first = 0; first < copies;) {
        const int size = sgd_next_group(copies - first, most);
        Status status = Status::success();
        if constexpr (most > 2) {
            if (size == 3) status = run(SgdGroup<3>{}, first);
            if (size == 4) status = run(SgdGroup<4>{}, first);
        }
        if (size == 1) status = run(SgdGroup<1>{}, first);
        if (size == 2) status = run(SgdGroup<2>{}, first);
        if (!status.ok()) return status;
        first += size;
    }
    return Status::success();
}

}  // namespace hl

#define HL_SGD_CUDA_DECLARE(name, Problem)                                                        \
    hl::Status hl_cuda_sgd_##name##_f32(const hl::SgdChains<float>*, const hl::Problem<float>*,   \
                                        const hl::CudaCall*, std::int64_t*);                      \
    hl::Status hl_cuda_sgd_##name##_f64(const hl::SgdChains<double>*, const hl::Problem<double>*, \
                                        const hl::CudaCall*, std::int64_t*);                      \
    std::int64_t hl_cuda_sgd_##name##_workspace_f32(const hl::SgdChains<float>*);                 \
    std::int64_t hl_cuda_sgd_##name##_workspace_f64(const hl::SgdChains<double>*);

extern "C" {
// Without rules and with no statistic but the sums; noise is gaussian.
HL_SGD_CUDA_DECLARE(quadratic, SgdQuadratic)
HL_SGD_CUDA_DECLARE(quadratic_full, SgdQuadraticFull)  // matrix and noise_factor are transposed
HL_SGD_CUDA_DECLARE(cosine, SgdCosine)
HL_SGD_CUDA_DECLARE(least_squares, SgdRows)
HL_SGD_CUDA_DECLARE(logistic, SgdRows)
HL_SGD_CUDA_DECLARE(huber, SgdRows)
HL_SGD_CUDA_DECLARE(squared_hinge, SgdRows)
HL_SGD_CUDA_DECLARE(softplus_hinge, SgdRows)
HL_SGD_CUDA_DECLARE(poisson, SgdRows)

// The same with squares, products and path: of up to four copies and 128 coordinates,
HL_SGD_CUDA_DECLARE(quadratic_statistics, SgdQuadratic)
HL_SGD_CUDA_DECLARE(cosine_statistics, SgdCosine)
// and of up to eight copies and 32 coordinates.
HL_SGD_CUDA_DECLARE(least_squares_statistics, SgdRows)
HL_SGD_CUDA_DECLARE(logistic_statistics, SgdRows)
HL_SGD_CUDA_DECLARE(huber_statistics, SgdRows)
HL_SGD_CUDA_DECLARE(squared_hinge_statistics, SgdRows)
HL_SGD_CUDA_DECLARE(softplus_hinge_statistics, SgdRows)
HL_SGD_CUDA_DECLARE(poisson_statistics, SgdRows)

// With everything (cuda_general.cuh).
HL_SGD_CUDA_DECLARE(quadratic_general, SgdQuadratic)
HL_SGD_CUDA_DECLARE(quadratic_full_general, SgdQuadraticFull)  // transposed too
HL_SGD_CUDA_DECLARE(cosine_general, SgdCosine)
HL_SGD_CUDA_DECLARE(least_squares_general, SgdRows)
HL_SGD_CUDA_DECLARE(logistic_general, SgdRows)
HL_SGD_CUDA_DECLARE(huber_general, SgdRows)
HL_SGD_CUDA_DECLARE(squared_hinge_general, SgdRows)
HL_SGD_CUDA_DECLARE(softplus_hinge_general, SgdRows)
HL_SGD_CUDA_DECLARE(poisson_general, SgdRows)
HL_SGD_CUDA_DECLARE(streaming_least_squares_general, SgdStreaming)
HL_SGD_CUDA_DECLARE(streaming_logistic_general, SgdStreaming)
HL_SGD_CUDA_DECLARE(markov_lsa_general, SgdMarkov)

// Bytes of workspace that a thread of the general kernel around a user's gradient needs.
std::int64_t hl_cuda_sgd_custom_thread_bytes_f32(const hl::SgdChains<float>*);
std::int64_t hl_cuda_sgd_custom_thread_bytes_f64(const hl::SgdChains<double>*);
}

#undef HL_SGD_CUDA_DECLARE

// Defines the four entry points of a kernel over templates run<T>(chains, problem, call, done) and
// workspace<T>(chains).
#define HL_SGD_CUDA_DEFINE(name, Problem, run, workspace)                        \
    extern "C" hl::Status hl_cuda_sgd_##name##_f32(                              \
        const hl::SgdChains<float>* chains, const hl::Problem<float>* problem,   \
        const hl::CudaCall* call, std::int64_t* steps_done) {                    \
        return run<float>(*chains, *problem, *call, steps_done);                 \
    }                                                                            \
    extern "C" hl::Status hl_cuda_sgd_##name##_f64(                              \
        const hl::SgdChains<double>* chains, const hl::Problem<double>* problem, \
        const hl::CudaCall* call, std::int64_t* steps_done) {                    \
        return run<double>(*chains, *problem, *call, steps_done);                \
    }                                                                            \
    extern "C" std::int64_t hl_cuda_sgd_##name##_workspace_f32(                  \
        const hl::SgdChains<float>* chains) {                                    \
        return workspace<float>(*chains);                                        \
    }                                                                            \
    extern "C" std::int64_t hl_cuda_sgd_##name##_workspace_f64(                  \
        const hl::SgdChains<double>* chains) {                                   \
        return workspace<double>(*chains);                                       \
    }

// The same for a loss over rows of data, from templates run_rows<T, Loss>(chains, problem, call,
// done, name) and rows_workspace<T>(chains) of the file. `suffix` tells the general kernels.
#define HL_SGD_CUDA_DEFINE_LOSS(loss, suffix, Loss)                                          \
    namespace hl {                                                                           \
    inline namespace HL_ISA_NAMESPACE {                                                      \
    namespace {                                                                              \
    template <class T>                                                                       \
    Status run_##loss(const SgdChains<T>& chains, const SgdRows<T>& p, const CudaCall& call, \
                      std::int64_t* steps_done) {                                            \
        return run_rows<T, Loss>(chains, p, call, steps_done, "sgd_" #loss);                 \
    }                                                                                        \
    }                                                                                        \
    }                                                                                        \
    }                                                                                        \
    HL_SGD_CUDA_DEFINE(loss##suffix, SgdRows, hl::run_##loss, hl::rows_workspace)
