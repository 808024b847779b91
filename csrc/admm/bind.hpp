#pragma once

#include <pybind11/pybind11.h>

namespace hl {

void register_admm_orthogonalize(pybind11::module_& module);
void register_admm_solve(pybind11::module_& module);
void register_admm_step(pybind11::module_& module);
void register_admm_tensors(pybind11::module_& module);

}  // namespace hl
