#include <pybind11/pybind11.h>

#include "../core/bind_arrays.hpp"
#include "../core/dispatch.hpp"
#include "bind.hpp"
#include "metrics_kernels.hpp"

namespace py = pybind11;

HL_DECLARE_TABLES(MetricsTable, metrics_table)

namespace hl {
namespace {

// x (x_count, dim) and the points of y as the columns of (dim, stride).
PairJob pairs_of(const Array<double>& x, const Array<double>& y, std::int64_t y_count,
                 int num_threads) {
    if (x.ndim() != 2 || y.ndim() != 2 || x.shape(1) != y.shape(0) || y_count < 0 ||
        y.shape(1) % point_group != 0 || y_count > y.shape(1))
        throw py::value_error("flow metrics: the points do not fit each other");
    return {x.shape(0), y_count, x.shape(1), y.shape(1), x.data(), y.data(), num_threads};
}

void kernel_sum(Array<double> partial, const Array<double>& x, const Array<double>& y,
                std::int64_t y_count, const Array<double>& scales, bool symmetric,
                int num_threads) {
    const KernelSumJob job{pairs_of(x, y, y_count, num_threads), scales.data(),
                           static_cast<int>(scales.size()), symmetric, partial.mutable_data()};
    if (partial.size() != (job.pairs.x_count + kernel_rows - 1) / kernel_rows ||
        (symmetric && job.pairs.x_count != y_count))
        throw py::value_error("flow metrics: partial must have one element for 64 rows");
    Status status = Status::success();
    {
        const py::gil_scoped_release release;
        status = HL_ACTIVE_TABLE(metrics_table).kernel_sum(job);
    }
    throw_status(status);
}

void distances(Array<double> out, const Array<double>& x, const Array<double>& y, int distance,
               int num_threads) {
    if (out.ndim() != 2 || out.shape(0) != x.shape(0))
        throw py::value_error("flow metrics: out must have shape (rows of x, rows of y)");
    const DistanceJob job{pairs_of(x, y, out.shape(1), num_threads),
                          static_cast<Distance>(distance), out.mutable_data()};
    Status status = Status::success();
    {
        const py::gil_scoped_release release;
        status = HL_ACTIVE_TABLE(metrics_table).distances(job);
    }
    throw_status(status);
}

}  // namespace

void register_flow_metrics(py::module_& module) {
    module.def("flow_kernel_sum", &kernel_sum, py::arg("partial").noconvert(),
               py::arg("x").noconvert(), py::arg("y").noconvert(), py::arg("y_count"),
               py::arg("scales").noconvert(), py::arg("symmetric"), py::arg("num_threads"));
    module.def("flow_distances", &distances, py::arg("out").noconvert(), py::arg("x").noconvert(),
               py::arg("y").noconvert(), py::arg("distance"), py::arg("num_threads"));
}

}  // namespace hl
