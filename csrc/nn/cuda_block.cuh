// Sums and maxima over the threads of a block, by a fixed tree in shared memory: one double for
// each thread. All threads must call, and all get the result.
#pragma once

#include "../core/cuda_device.cuh"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

template <class Combine>
HL_DEVICE double block_combine(double x, double* shared, const Combine& combine) {
    shared[threadIdx.x] = x;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half)
            shared[threadIdx.x] = combine(shared[threadIdx.x], shared[threadIdx.x + half]);
        __syncthreads();
    }
    const double result = shared[0];
    __syncthreads();
    return result;
}

HL_DEVICE double block_sum(double x, double* shared) {
    return block_combine(x, shared, [](double a, double b) { return a + b; });
}

HL_DEVICE double block_largest(double x, double* shared) {
    return block_combine(x, shared, [](double a, double b) { return a > b ? a : b; });
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
