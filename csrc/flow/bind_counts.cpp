#include <pybind11/pybind11.h>

#include <string>

#include "../core/bind_arrays.hpp"
#include "../core/dispatch.hpp"
#include "bind.hpp"
#include "counts_kernels.hpp"

namespace py = pybind11;

HL_DECLARE_TABLES(CountTable, count_table)

namespace hl {
namespace {

using Numbers = OptionalArray<std::int64_t>;

template <class T>
const CountKernels<T>& kernels() {
    const CountTable& table = HL_ACTIVE_TABLE(count_table);
    if constexpr (sizeof(T) == 4)
        return table.f32;
    else
        return table.f64;
}

// A parameter of shape (1 or rows, 1 or columns).
template <class T>
CountParameter<T> parameter_of(const Array<T>& array, std::int64_t rows, std::int64_t columns) {
    if (array.ndim() != 2 || (array.shape(0) != 1 && array.shape(0) != rows) ||
        (array.shape(1) != 1 && array.shape(1) != columns))
        throw py::value_error("flow counts: a parameter must have shape (rows, columns)");
    return {array.data(), array.shape(0) == 1 ? 0 : array.shape(1), array.shape(1) == 1 ? 0 : 1};
}

template <class T, class O>
void draw(Status (*kernel)(const CountJob<T>&, O*), Array<O>& out, const Array<T>& first,
          const Array<T>& second, std::uint64_t seed, std::int64_t step, const Numbers& numbers,
          std::int64_t first_row, int num_threads) {
    if (out.ndim() != 2 || (numbers && numbers->size() != out.shape(0)))
        throw py::value_error("flow counts: out must have shape (rows, columns)");
    const std::int64_t rows = out.shape(0), columns = out.shape(1);
    const CountJob<T> job{rows,
                          columns,
                          parameter_of(first, rows, columns),
                          parameter_of(second, rows, columns),
                          seed,
                          step,
                          data_or_null(numbers),
                          first_row,
                          num_threads};
    O* const target = out.mutable_data();
    if (out.size() == 0) return;
    Status status = Status::success();
    {
        py::gil_scoped_release release;
        status = kernel(job, target);
    }
    throw_status(status);
}

template <class T, class O>
void define_draw(py::module_& module, const std::string& name,
                 Status (*CountKernels<T>::*kernel)(const CountJob<T>&, O*)) {
    module.def(
        name.c_str(),
        [kernel](Array<O> out, const Array<T>& first, const Array<T>& second, std::uint64_t seed,
                 std::int64_t step, const Numbers& numbers, std::int64_t first_row,
                 int num_threads) {
            draw<T, O>(kernels<T>().*kernel, out, first, second, seed, step, numbers, first_row,
                       num_threads);
        },
        py::arg("out").noconvert(), py::arg("first").noconvert(), py::arg("second").noconvert(),
        py::arg("seed"), py::arg("step"), py::arg("numbers").noconvert(), py::arg("first_row"),
        py::arg("num_threads"));
}

template <class T>
T* slope_of(OptionalArray<T>& slope, std::int64_t size) {
    if (!slope) return nullptr;
    if (slope->size() != size) throw py::value_error("flow likelihood: slopes must fit the values");
    return slope->mutable_data();
}

template <class T>
void likelihood(Array<T> value, OptionalArray<T> mu_slope, OptionalArray<T> theta_slope,
                const Array<T>& counts, const Array<T>& mu, const Array<T>& theta,
                int num_threads) {
    if (value.ndim() != 2)
        throw py::value_error("flow likelihood: values must have shape (rows, columns)");
    const std::int64_t rows = value.shape(0), columns = value.shape(1);
    const LikelihoodJob<T> job{rows,
                               columns,
                               parameter_of(counts, rows, columns),
                               parameter_of(mu, rows, columns),
                               parameter_of(theta, rows, columns),
                               value.mutable_data(),
                               slope_of(mu_slope, value.size()),
                               slope_of(theta_slope, value.size()),
                               num_threads};
    if (value.size() == 0) return;
    Status status = Status::success();
    {
        py::gil_scoped_release release;
        status = kernels<T>().likelihood(job);
    }
    throw_status(status);
}

template <class T>
void define_counts(py::module_& module, const std::string& type) {
    define_draw<T, std::int32_t>(module, "flow_negative_binomial_" + type,
                                 &CountKernels<T>::negative_binomial);
    define_draw<T, std::int32_t>(module, "flow_poisson_" + type, &CountKernels<T>::poisson);
    define_draw<T, std::int32_t>(module, "flow_bernoulli_" + type, &CountKernels<T>::bernoulli);
    define_draw<T, T>(module, "flow_gamma_" + type, &CountKernels<T>::gamma);
    module.def(("flow_likelihood_" + type).c_str(), &likelihood<T>, py::arg("value").noconvert(),
               py::arg("mu_slope").noconvert(), py::arg("theta_slope").noconvert(),
               py::arg("counts").noconvert(), py::arg("mu").noconvert(),
               py::arg("theta").noconvert(), py::arg("num_threads"));
}

}  // namespace

void register_flow_counts(py::module_& module) {
    define_counts<float>(module, "float32");
    define_counts<double>(module, "float64");
}

}  // namespace hl
