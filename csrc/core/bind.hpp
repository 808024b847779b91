#pragma once

#include <pybind11/pybind11.h>

namespace hl {

void register_core(pybind11::module_& module);
void register_test_hooks(pybind11::module_& module);
void register_core_cuda(pybind11::module_& module);

}  // namespace hl
