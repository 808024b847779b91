// The CUDA module over the shim: the bindings and the grid code of the package, in host memory.
#include <pybind11/pybind11.h>

#include <cstdint>

#include <string>

#include "core/bind_status.hpp"
#include "core/cublas.hpp"

namespace py = pybind11;

namespace hl {
void register_admm_cuda(py::module_& module);
void register_flow_cuda(py::module_& module);
void register_nn_cuda(py::module_& module);
void register_prox_cuda(py::module_& module);
void register_random_cuda(py::module_& module);
void register_sgd_cuda(py::module_& module);
void register_simplex_cuda(py::module_& module);
}  // namespace hl

PYBIND11_MODULE(cuda_shim, module) {
    hl::register_status_translator();
    hl::register_admm_cuda(module);
    hl::register_flow_cuda(module);
    hl::register_nn_cuda(module);
    hl::register_prox_cuda(module);
    hl::register_random_cuda(module);
    hl::register_sgd_cuda(module);
    hl::register_simplex_cuda(module);
    module.def("load_cublas", [](const std::string& path) {
        const char* const reason = hl::load_cublas(path.c_str());
        return std::string(reason == nullptr ? "" : reason);
    });
    module.def("set_max_blocks", [](std::int64_t blocks) { hl_shim::max_blocks = blocks; });
    module.def("set_max_steps", [](double steps) { hl_shim::max_steps = steps; });
    module.def("set_backwards", [](bool backwards) { hl_shim::backwards = backwards; });
    module.def("fail_next_launch", [](int error) { hl_shim::next_error = error; });
    module.def("launches", [] { return hl_shim::launches; });
    module.def("device", [] { return hl_shim::device; });
    module.def("last_stream",
               [] { return reinterpret_cast<std::uintptr_t>(hl_shim::last_stream); });
}
