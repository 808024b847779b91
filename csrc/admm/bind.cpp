#include "bind.hpp"

namespace hl {

void register_admm(pybind11::module_& module) {
    register_admm_orthogonalize(module);
    register_admm_solve(module);
    register_admm_step(module);
    register_admm_tensors(module);
}

}  // namespace hl
