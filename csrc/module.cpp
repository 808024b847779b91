#include <pybind11/pybind11.h>

namespace hl {
void register_core(pybind11::module_& module);
void register_admm(pybind11::module_& module);
void register_flow(pybind11::module_& module);
void register_nn(pybind11::module_& module);
void register_prox(pybind11::module_& module);
void register_random(pybind11::module_& module);
void register_sgd(pybind11::module_& module);
void register_simplex(pybind11::module_& module);
}  // namespace hl

PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
    hl::register_core(module);
    hl::register_admm(module);
    hl::register_flow(module);
    hl::register_nn(module);
    hl::register_prox(module);
    hl::register_random(module);
    hl::register_sgd(module);
    hl::register_simplex(module);
}
