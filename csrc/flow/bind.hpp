#pragma once

#include <pybind11/pybind11.h>

namespace hl {

void register_flow_counts(pybind11::module_& module);
void register_flow_decode(pybind11::module_& module);
void register_flow_metrics(pybind11::module_& module);
void register_flow_integrate(pybind11::module_& module);
void register_flow_matching(pybind11::module_& module);

}  // namespace hl
