#pragma once

#include <pybind11/pybind11.h>

#include "../core/bind_cuda.hpp"

namespace hl {

using Address = std::uintptr_t;

// Calls launch(CudaCall) on the caller's device and stream.
template <class Launch>
void on_stream(int device, Address stream, const Launch& launch) {
    make_current(device);
    const CudaCall call{pointer<void>(stream), nullptr, 0};
    throw_status(launch(&call));
}

void register_flow_counts_cuda(pybind11::module_& module);
void register_flow_decode_cuda(pybind11::module_& module);

}  // namespace hl
