// Small device-side helpers of the CUDA drivers, and the names that the tests replace to run the
// same grid code on a CPU (tests/cpp/cuda_shim.hpp, included before this file).
#pragma once

#include <cstdint>

#if defined(__CUDACC_RTC__)
#define __builtin_memcpy memcpy  // which NVRTC knows under this name only
#elif !defined(HL_CUDA_SHIM)
#include <cuda_runtime.h>
#endif

#include "config.hpp"

// Functions and member functions of the grid code.
#define HL_DEVICE static __device__ __forceinline__
#define HL_DEVICE_MEMBER __device__ __forceinline__

#if defined(HL_CUDA_SHIM)
#define HL_DYNAMIC_SHARED(name) unsigned char* const name = hl_shim::dynamic_shared()
#else
#define HL_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#endif

namespace hl {
inline namespace HL_ISA_NAMESPACE {

constexpr int warp_lanes = 32;
constexpr unsigned full_warp = 0xffffffffu;

// This thread among all threads of the grid, and how many there are.
HL_DEVICE std::int64_t grid_thread() {
    return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
HL_DEVICE std::int64_t grid_threads() {
    return static_cast<std::int64_t>(gridDim.x) * blockDim.x;
}

// Memory that no kernel writes while this one runs.
template <class T>
HL_DEVICE T read_only(const T* address) {
    return __ldg(address);
}

// Four values that travel in pieces of 16 bytes; `address` is a multiple of 16 bytes.
template <class T>
struct alignas(16) Four {
    T value[4];
};

template <class T>
HL_DEVICE Four<T> load_four(const T* address) {
    return *reinterpret_cast<const Four<T>*>(address);
}

template <class T>
HL_DEVICE void store_four(T* address, const T* values) {
    *reinterpret_cast<Four<T>*>(address) = {{values[0], values[1], values[2], values[3]}};
}

// True in every lane of a group when it is true in one. `lanes` are the bits of the group. All
// lanes of the warp must call it.
HL_DEVICE bool any_in_group(bool value, unsigned lanes) {
    return (__ballot_sync(full_warp, value) & lanes) != 0;
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
