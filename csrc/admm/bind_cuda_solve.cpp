#include <pybind11/pybind11.h>

#include "../core/bind_cuda.hpp"
#include "cuda_solve.hpp"

namespace py = pybind11;

namespace hl {
namespace {

// Addresses of device memory; _cuda.py has checked what they lead to. `clients` is a table of
// AdmmRows in words of 64 bits.
template <class T, class Kernel>
void define_gradient(py::module_& module, const char* name, Kernel kernel) {
    module.def(name, [kernel](Address clients, std::int64_t columns, std::int64_t dim, int loss,
                              bool intercept, double first_shape, double second_shape, int sampling,
                              std::int64_t size, std::uint64_t seed, std::int64_t round,
                              Address tasks, Address active, std::int64_t num_tasks, Address w,
                              bool own, Address partials, Address values, Address first_row,
                              std::int64_t num_rows, Address ids, Address slopes, Address losses,
                              Address strands, bool dense, int device, Address stream) {
        const AdmmModel model = {nullptr,
                                 1,
                                 dim,
                                 static_cast<AdmmLoss>(loss),
                                 AdmmActivation::relu,
                                 intercept,
                                 {first_shape, second_shape}};
        const CudaAdmmGradient<T> job = {{pointer<const AdmmRows<T>>(clients),
                                          model,
                                          {static_cast<AdmmSampling>(sampling), size, seed, round},
                                          pointer<const std::int64_t>(tasks),
                                          pointer<const std::uint8_t>(active),
                                          num_tasks,
                                          pointer<const T>(w),
                                          own ? dim : 0,
                                          pointer<T>(partials),
                                          pointer<double>(values),
                                          0,
                                          1},
                                         columns,
                                         pointer<const std::int64_t>(first_row),
                                         num_rows,
                                         pointer<std::int64_t>(ids),
                                         pointer<T>(slopes),
                                         pointer<T>(losses),
                                         pointer<T>(strands)};
        on_stream(device, stream,
                  [&](const CudaCall* where) { return kernel(&job, dense ? 1 : 0, where); });
    });
}

template <class T, class Kernel>
void define_round(py::module_& module, const char* name, Kernel kernel) {
    module.def(
        name, [kernel](Address partials, Address tasks, Address active, std::int64_t num_tasks,
                       std::int64_t num_clients, std::int64_t dim, Address scale, Address alpha,
                       Address sigma, Address rho, int scheme, double beta, double correction,
                       double eps, double cap, double relaxation, double l2, std::int64_t penalised,
                       Address w, Address dual, Address second, Address local, Address gradient,
                       Address sums, bool optimistic, int device, Address stream) {
            const AdmmRound<T> job = {pointer<const T>(partials),
                                      pointer<const std::int64_t>(tasks),
                                      pointer<const std::uint8_t>(active),
                                      num_tasks,
                                      num_clients,
                                      dim,
                                      pointer<const double>(scale),
                                      pointer<const double>(alpha),
                                      pointer<const double>(sigma),
                                      pointer<const double>(rho),
                                      static_cast<AdmmScheme>(scheme),
                                      beta,
                                      correction,
                                      eps,
                                      cap,
                                      relaxation,
                                      l2,
                                      penalised,
                                      pointer<T>(w),
                                      pointer<T>(dual),
                                      pointer<T>(second),
                                      pointer<T>(local),
                                      pointer<T>(gradient),
                                      pointer<double>(sums),
                                      optimistic,
                                      1};
            on_stream(device, stream, [&](const CudaCall* where) { return kernel(&job, where); });
        });
}

}  // namespace

void register_admm_solve_cuda(py::module_& module) {
    define_gradient<float>(module, "admm_gradient_float32", hl_cuda_admm_gradient_f32);
    define_gradient<double>(module, "admm_gradient_float64", hl_cuda_admm_gradient_f64);
    define_round<float>(module, "admm_round_float32", hl_cuda_admm_round_f32);
    define_round<double>(module, "admm_round_float64", hl_cuda_admm_round_f64);
}

}  // namespace hl
