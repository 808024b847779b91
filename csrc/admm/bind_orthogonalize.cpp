#include <pybind11/pybind11.h>

#include "../core/bind_arrays.hpp"
#include "../core/dispatch.hpp"
#include "bind.hpp"
#include "orthogonalize.hpp"

namespace py = pybind11;

HL_DECLARE_TABLES(OrthogonalizeTable, orthogonalize_table)

namespace hl {
namespace {

template <class T>
void orthogonalize(const Array<T>& matrices, Array<T>& out, int steps, T a, T b, T c,
                   int num_threads) {
    if (matrices.ndim() != 3 || out.ndim() != 3 || matrices.shape(0) != out.shape(0) ||
        matrices.shape(1) != out.shape(1) || matrices.shape(2) != out.shape(2))
        throw py::value_error("orthogonalize: the arrays must have shape (count, rows, columns)");
    const OrthogonalizeJob<T> job{matrices.shape(0),
                                  matrices.shape(1),
                                  matrices.shape(2),
                                  matrices.data(),
                                  out.mutable_data(),
                                  steps,
                                  a,
                                  b,
                                  c,
                                  num_threads};
    if (matrices.size() == 0) return;
    Status status = Status::success();
    {
        py::gil_scoped_release release;
        const OrthogonalizeTable& table = HL_ACTIVE_TABLE(orthogonalize_table);
        if constexpr (sizeof(T) == 4)
            status = table.f32(job);
        else
            status = table.f64(job);
    }
    throw_status(status);
}

template <class T>
void define_orthogonalize(py::module_& module, const char* name) {
    module.def(name, &orthogonalize<T>, py::arg("matrices").noconvert(), py::arg("out").noconvert(),
               py::arg("steps"), py::arg("a"), py::arg("b"), py::arg("c"), py::arg("num_threads"));
}

}  // namespace

void register_admm_orthogonalize(py::module_& module) {
    define_orthogonalize<float>(module, "admm_orthogonalize_float32");
    define_orthogonalize<double>(module, "admm_orthogonalize_float64");
}

}  // namespace hl
