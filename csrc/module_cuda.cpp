#include <pybind11/pybind11.h>

namespace hl {
void register_core_cuda(pybind11::module_& module);
void register_admm_cuda(pybind11::module_& module);
void register_flow_cuda(pybind11::module_& module);
void register_nn_cuda(pybind11::module_& module);
void register_prox_cuda(pybind11::module_& module);
void register_random_cuda(pybind11::module_& module);
void register_sgd_cuda(pybind11::module_& module);
void register_simplex_cuda(pybind11::module_& module);
}  // namespace hl

PYBIND11_MODULE(_cuda, module, pybind11::mod_gil_not_used()) {
    hl::register_core_cuda(module);
    hl::register_admm_cuda(module);
    hl::register_flow_cuda(module);
    hl::register_nn_cuda(module);
    hl::register_prox_cuda(module);
    hl::register_random_cuda(module);
    hl::register_sgd_cuda(module);
    hl::register_simplex_cuda(module);
}
