#pragma once

#include <pybind11/pybind11.h>

#include "../core/bind_cuda.hpp"

namespace hl {

void register_flow_counts_cuda(pybind11::module_& module);
void register_flow_decode_cuda(pybind11::module_& module);

}  // namespace hl
