#include "bind.hpp"

namespace hl {

void register_flow(pybind11::module_& module) {
    register_flow_counts(module);
    register_flow_decode(module);
    register_flow_metrics(module);
    register_flow_integrate(module);
    register_flow_matching(module);
}

}  // namespace hl
