// For the CUDA bindings: addresses in, the caller's device made current.
#pragma once

#include <cstdint>

#include "bind_status.hpp"
#include "cuda_launch.hpp"

namespace hl {

template <class T>
T* pointer(std::uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

// Makes the device current that the library of the caller has made current. That library has its
// own copy of the CUDA runtime, and what that one knows need not be known to this one. Nothing is
// put back: it would change the device under the caller.
inline void make_current(int device) {
    int current = -1;
    throw_status(cuda_status("cudaGetDevice", cudaGetDevice(&current)));
    if (current != device) throw_status(cuda_status("cudaSetDevice", cudaSetDevice(device)));
}

}  // namespace hl
