#include <pybind11/pybind11.h>

#include "../core/bind_cuda.hpp"
#include "cuda.hpp"

namespace py = pybind11;

namespace hl {

void register_admm_solve_cuda(py::module_& module);

namespace {

// Addresses of device memory, which _cuda_step.py and the torch optimizers have filled.
template <class T, class Kernel>
void define_sisa(py::module_& module, const char* name, Kernel kernel) {
    module.def(name, [kernel](std::int64_t num_tensors, std::int64_t num_clients,
                              std::int64_t chunks, std::uintptr_t sizes, std::uintptr_t first_chunk,
                              std::uintptr_t w, std::uintptr_t gradients, std::uintptr_t duals,
                              std::uintptr_t moments, std::uintptr_t sums, std::uintptr_t copies,
                              std::uintptr_t rows, std::uintptr_t scalars, int gradient_precision,
                              int copy_precision, int kind, T scale, T shrink, bool starts,
                              bool finishes, std::uint64_t seed, std::int64_t step,
                              std::uintptr_t found_inf, int device, std::uintptr_t stream) {
        const CudaSisa<T> call{{{num_tensors, pointer<const std::int64_t>(sizes),
                                 pointer<const std::int64_t>(first_chunk)},
                                num_clients,
                                pointer<const std::uint64_t>(w),
                                pointer<const std::uint64_t>(gradients),
                                pointer<const std::uint64_t>(duals),
                                pointer<const std::uint64_t>(moments),
                                pointer<const std::uint64_t>(sums),
                                pointer<const std::uint64_t>(copies),
                                static_cast<Precision>(gradient_precision),
                                static_cast<Precision>(copy_precision),
                                static_cast<Preconditioner>(kind),
                                pointer<const SisaScalars<T>>(scalars),
                                {scale, shrink},
                                starts,
                                finishes,
                                {pointer<const std::uint64_t>(rows), seed, step},
                                1},
                               chunks,
                               pointer<const float>(found_inf)};
        on_stream(device, stream, [&](const CudaCall* where) { return kernel(&call, where); });
    });
}

template <class T, class Kernel>
void define_momentum(py::module_& module, const char* name, Kernel kernel) {
    module.def(
        name, [kernel](std::int64_t num_tensors, std::int64_t chunks, std::uintptr_t sizes,
                       std::uintptr_t first_chunk, std::uintptr_t gradients, std::uintptr_t momenta,
                       std::uintptr_t out, int gradient_precision, T beta, T gradient_scale,
                       std::uintptr_t found_inf, int device, std::uintptr_t stream) {
            const CudaMomentum<T> call{{{num_tensors, pointer<const std::int64_t>(sizes),
                                         pointer<const std::int64_t>(first_chunk)},
                                        pointer<const std::uint64_t>(gradients),
                                        pointer<const std::uint64_t>(momenta),
                                        pointer<const std::uint64_t>(out),
                                        static_cast<Precision>(gradient_precision),
                                        beta,
                                        gradient_scale,
                                        1},
                                       chunks,
                                       pointer<const float>(found_inf)};
            on_stream(device, stream, [&](const CudaCall* where) { return kernel(&call, where); });
        });
}

}  // namespace

void register_admm_cuda(py::module_& module) {
    register_admm_solve_cuda(module);
    module.attr("admm_chunk") = cuda_chunk;
    define_sisa<float>(module, "admm_sisa_float32", hl_cuda_admm_sisa_f32);
    define_sisa<double>(module, "admm_sisa_float64", hl_cuda_admm_sisa_f64);
    define_momentum<float>(module, "admm_momentum_float32", hl_cuda_admm_momentum_f32);
    define_momentum<double>(module, "admm_momentum_float64", hl_cuda_admm_momentum_f64);
}

}  // namespace hl
