// Launching on the caller's stream.
#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(HL_CUDA_SHIM)
#include <cuda_runtime.h>
#endif

#include "status.hpp"

// The CPU shim of the tests lowers it, to see that kernels loop.
#if defined(HL_CUDA_SHIM)
#define HL_MAX_BLOCKS hl_shim::max_blocks
#else
#define HL_MAX_BLOCKS 0x7fffffff
#endif

// And this, to see that runs are cut.
#if defined(HL_CUDA_SHIM)
#define HL_MOST_STEPS hl_shim::max_steps
#else
#define HL_MOST_STEPS 10000
#endif

namespace hl {

// Steps of one launch of chains: about as many as `wanted`, which keeps it short, and none beyond
// the step at which the low counter word wraps.
inline std::int64_t launch_steps(std::int64_t first_step, std::int64_t num_steps, double wanted) {
    const double most = wanted < HL_MOST_STEPS ? wanted : HL_MOST_STEPS;
    const std::int64_t count = most > 4.0 ? static_cast<std::int64_t>(most) : 4;
    const std::int64_t wrap = ((first_step >> 32) + 1) << 32;
    const std::int64_t room = num_steps < wrap - first_step ? num_steps : wrap - first_step;
    return count < room ? count : room;
}

// Where the kernels of one call run. They allocate nothing: what they need beyond the caller's
// arrays is in the workspace, whose size a function beside each kernel tells.
struct CudaCall {
    void* stream;  // cudaStream_t
    void* workspace;
    std::int64_t workspace_bytes;
};

struct LaunchShape {
    std::int64_t blocks;  // kernels loop: a grid cut at its limit does the same work
    int threads;
    std::int64_t shared_bytes;
};

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
    return (a + b - 1) / b;
}

inline LaunchShape shape_for(std::int64_t threads, int threads_per_block) {
    return {ceil_div(threads, threads_per_block), threads_per_block, 0};
}

inline Status cuda_status(const char* where, cudaError_t error) {
    if (error == cudaSuccess) return Status::success();
    cudaGetLastError();  // the error is reported here: the next caller must not meet it again
    return Status::cuda(where, static_cast<std::int32_t>(error));
}

#if defined(HL_CUDA_SHIM)
template <class... P>
cudaError_t launch_grid(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes,
                        cudaStream_t stream, P... arguments) {
    return hl_shim::run_grid(grid, block, shared_bytes, stream, [&] { kernel(arguments...); });
}
#else
template <class... P>
cudaError_t launch_grid(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes,
                        cudaStream_t stream, P... arguments) {
    void* addresses[] = {&arguments...};
    return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block, addresses,
                            shared_bytes, stream);
}
#endif

template <class P>
struct Argument {
    using Type = P;  // not deduced: arguments are converted to what the kernel takes
};

template <class... P>
Status launch(const char* where, void (*kernel)(P...), const LaunchShape& shape,
              const CudaCall& call, typename Argument<P>::Type... arguments) {
    if (shape.blocks == 0) return Status::success();
    const std::int64_t blocks = shape.blocks < HL_MAX_BLOCKS ? shape.blocks : HL_MAX_BLOCKS;
    return cuda_status(where,
                       launch_grid<P...>(kernel, dim3(static_cast<unsigned>(blocks)),
                                         dim3(static_cast<unsigned>(shape.threads)),
                                         static_cast<std::size_t>(shape.shared_bytes),
                                         static_cast<cudaStream_t>(call.stream), arguments...));
}

}  // namespace hl
