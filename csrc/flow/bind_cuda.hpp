#pragma once

#include <pybind11/pybind11.h>

namespace hl {

void register_flow_counts_cuda(pybind11::module_& module);

}  // namespace hl
