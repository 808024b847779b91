#include "bind_cuda.hpp"

namespace hl {

void register_flow_cuda(pybind11::module_& module) {
    register_flow_counts_cuda(module);
    register_flow_decode_cuda(module);
}

}  // namespace hl
