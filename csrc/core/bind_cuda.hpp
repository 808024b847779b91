// For the CUDA bindings: addresses in, the caller's device made current.
#pragma once

#include <cstdint>

#include "bind_status.hpp"
#include "cuda_launch.hpp"

namespace hl {

using Address = std::uintptr_t;

template <class T>
T* pointer(Address address) {
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

// Calls launch(CudaCall) on the caller's device and stream.
template <class Launch>
void on_stream(int device, Address stream, const Launch& launch) {
    make_current(device);
    const CudaCall call{pointer<void>(stream), nullptr, 0};
    throw_status(launch(&call));
}

template <class Job>
void call_on_stream(Status (*kernel)(const Job*, const CudaCall*), const Job& job, int device,
                    Address stream) {
    on_stream(device, stream, [&](const CudaCall* where) { return kernel(&job, where); });
}

}  // namespace hl
