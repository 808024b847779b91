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

// Makes a device current while it lives. The library of the caller has its own copy of the CUDA
// runtime, and what that one holds as current need not be known to this one.
class DeviceGuard {
  public:
    explicit DeviceGuard(int device) {
        throw_status(cuda_status("cudaGetDevice", cudaGetDevice(&before_)));
        if (device == before_) return;
        throw_status(cuda_status("cudaSetDevice", cudaSetDevice(device)));
        changed_ = true;
    }
    ~DeviceGuard() {
        if (changed_) cudaSetDevice(before_);
    }
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

  private:
    int before_ = 0;
    bool changed_ = false;
};

}  // namespace hl
