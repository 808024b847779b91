#include <cuda_runtime_api.h>
#include <pybind11/pybind11.h>

#include <string>

#include "bind.hpp"
#include "bind_status.hpp"
#include "cublas.hpp"

namespace py = pybind11;

namespace hl {
namespace {

std::string version_text(int version) {
    return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Empty when there is a device to run on. Nothing here runs at import, so that the module loads on
// a machine without a driver.
std::string reason_unavailable(cudaError_t error, int devices, int driver) {
    if (driver == 0) return "no CUDA driver is installed";
    if (error == cudaErrorInsufficientDriver) {
        return "the CUDA driver is too old: it supports CUDA " + version_text(driver) +
               ", this build needs " + version_text(CUDART_VERSION);
    }
    if (error == cudaErrorNoDevice || (error == cudaSuccess && devices == 0)) {
        return "the CUDA driver finds no device";
    }
    if (error != cudaSuccess) return cudaGetErrorString(error);
    return "";
}

py::dict driver_state() {
    int devices = 0;
    int driver = 0;
    cudaDriverGetVersion(&driver);
    const cudaError_t error = cudaGetDeviceCount(&devices);
    if (error != cudaSuccess) devices = 0;
    cudaGetLastError();
    const std::string reason = reason_unavailable(error, devices, driver);

    py::dict state;
    state["available"] = reason.empty();
    state["reason"] = reason;
    state["device_count"] = devices;
    state["driver_version"] = driver;
    state["runtime_version"] = CUDART_VERSION;
    return state;
}

int device_count() {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess) return devices;
    cudaGetLastError();
    return 0;
}

}  // namespace

void register_core_cuda(py::module_& module) {
    register_status_translator();
    module.def("device_count", &device_count);
    module.def("driver_state", &driver_state);
    // Empty, or why cuBLAS cannot be used from there.
    module.def(
        "load_cublas",
        [](const std::string& path) {
            const char* const reason = load_cublas(path.c_str());
            return std::string(reason == nullptr ? "" : reason);
        },
        py::arg("path"));
    module.def("architectures", [] { return HL_CUDA_ARCHITECTURES; });
}

}  // namespace hl
