#include <pybind11/pybind11.h>

#include <string>

#include "bind_cuda.hpp"
#include "cuda_counts.hpp"

namespace py = pybind11;

namespace hl {
namespace {

// An address with the strides of rows and columns.
template <class T>
CountParameter<T> parameter_of(const py::tuple& given) {
    return {pointer<const T>(given[0].cast<Address>()), given[1].cast<std::int64_t>(),
            given[2].cast<std::int64_t>()};
}

// _cuda_counts.py has checked what the addresses lead to.
template <class T, class O>
void define_draw(py::module_& module, const std::string& name,
                 Status (*kernel)(const CountJob<T>*, O*, const CudaCall*)) {
    module.def(
        name.c_str(),
        [kernel](Address out, std::int64_t rows, std::int64_t columns, const py::tuple& first,
                 const py::tuple& second, std::uint64_t seed, std::int64_t step, Address numbers,
                 std::int64_t first_row, int device, Address stream) {
            const CountJob<T> job{rows,
                                  columns,
                                  parameter_of<T>(first),
                                  parameter_of<T>(second),
                                  seed,
                                  step,
                                  pointer<const std::int64_t>(numbers),
                                  first_row,
                                  1};
            on_stream(device, stream,
                      [&](const CudaCall* call) { return kernel(&job, pointer<O>(out), call); });
        },
        py::arg("out"), py::arg("rows"), py::arg("columns"), py::arg("first"), py::arg("second"),
        py::arg("seed"), py::arg("step"), py::arg("numbers"), py::arg("first_row"),
        py::arg("device"), py::arg("stream"));
}

template <class T>
void define_likelihood(py::module_& module, const std::string& name,
                       Status (*kernel)(const LikelihoodJob<T>*, const CudaCall*)) {
    module.def(
        name.c_str(),
        [kernel](Address value, Address mu_slope, Address theta_slope, std::int64_t rows,
                 std::int64_t columns, const py::tuple& counts, const py::tuple& mu,
                 const py::tuple& theta, int device, Address stream) {
            const LikelihoodJob<T> job{rows,
                                       columns,
                                       parameter_of<T>(counts),
                                       parameter_of<T>(mu),
                                       parameter_of<T>(theta),
                                       pointer<T>(value),
                                       pointer<T>(mu_slope),
                                       pointer<T>(theta_slope),
                                       1};
            on_stream(device, stream, [&](const CudaCall* call) { return kernel(&job, call); });
        },
        py::arg("value"), py::arg("mu_slope"), py::arg("theta_slope"), py::arg("rows"),
        py::arg("columns"), py::arg("counts"), py::arg("mu"), py::arg("theta"), py::arg("device"),
        py::arg("stream"));
}

}  // namespace

void register_flow_counts_cuda(py::module_& module) {
    define_draw(module, "flow_negative_binomial_float32", hl_cuda_flow_negative_binomial_f32);
    define_draw(module, "flow_negative_binomial_float64", hl_cuda_flow_negative_binomial_f64);
    define_draw(module, "flow_poisson_float32", hl_cuda_flow_poisson_f32);
    define_draw(module, "flow_poisson_float64", hl_cuda_flow_poisson_f64);
    define_draw(module, "flow_bernoulli_float32", hl_cuda_flow_bernoulli_f32);
    define_draw(module, "flow_bernoulli_float64", hl_cuda_flow_bernoulli_f64);
    define_draw(module, "flow_gamma_float32", hl_cuda_flow_gamma_f32);
    define_draw(module, "flow_gamma_float64", hl_cuda_flow_gamma_f64);
    define_likelihood(module, "flow_likelihood_float32", hl_cuda_flow_likelihood_f32);
    define_likelihood(module, "flow_likelihood_float64", hl_cuda_flow_likelihood_f64);
}

}  // namespace hl
