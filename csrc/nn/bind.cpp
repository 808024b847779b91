#include "bind.hpp"

#include "../core/blas.hpp"

namespace hl {
namespace {

// The addresses of SciPy's sgemm and dgemm.
void take_blas(std::uintptr_t sgemm, std::uintptr_t dgemm) {
    set_blas(reinterpret_cast<Gemm<float>>(sgemm), reinterpret_cast<Gemm<double>>(dgemm));
}

}  // namespace

void register_nn(py::module_& module) {
    module.def("set_blas", &take_blas, py::arg("sgemm"), py::arg("dgemm"));
    register_nn_passes(module);
    register_nn_losses(module);
    register_nn_training(module);
    register_nn_tile(module);
}

}  // namespace hl
