#include <pybind11/pybind11.h>

#include "../core/bind_arrays.hpp"
#include "../core/dispatch.hpp"
#include "../core/finite.hpp"
#include "kernels.hpp"

namespace py = pybind11;

HL_DECLARE_TABLES(ProxTable, prox_table)

namespace hl {
namespace {

using Numbers = Array<double>;

template <class T>
const ProxKernels<T>& kernels() {
    const ProxTable& table = HL_ACTIVE_TABLE(prox_table);
    if constexpr (sizeof(T) == 4)
        return table.f32;
    else
        return table.f64;
}

// When to look for what is not finite. Kernels that can look while they work spoil `out` if there
// is any; the others always look before.
enum Look { no_look, look_within, look_before };

template <class T>
Status look_at(const T* v, std::int64_t size, int num_threads, bool& finite) {
    const auto address = reinterpret_cast<std::uint64_t>(v);
    constexpr Precision precision = sizeof(T) == 4 ? Precision::f32 : Precision::f64;
    return all_finite(&address, &size, 1, precision, num_threads, finite);
}

// Returns whether all of v is finite, as far as was looked.
template <class Job>
bool call(Status (*kernel)(const Job&), const Job& job, bool looks) {
    if (job.rows == 0 || job.columns == 0) return true;
    bool finite = true;
    Status status = Status::success();
    {
        py::gil_scoped_release release;
        if (looks) status = look_at(job.v, job.rows * job.columns, job.num_threads, finite);
        if (status.ok() && finite) status = kernel(job);
    }
    throw_status(status);
    return finite;
}

template <class Job>
bool call_looking(Status (*kernel)(const Job&), Job job, int look) {
    std::int32_t not_finite = 0;
    if (look == look_within) job.not_finite = &not_finite;
    return call(kernel, job, look == look_before) && not_finite == 0;
}

// v and out (rows, columns).
template <class T>
void check(const Array<T>& v, const Array<T>& out) {
    if (v.ndim() != 2 || out.ndim() != 2 || v.shape(0) != out.shape(0) ||
        v.shape(1) != out.shape(1))
        throw py::value_error("prox: v and out must have the same shape (rows, columns)");
}

std::int64_t stride_of(const Numbers& numbers, py::ssize_t rows) {
    if (numbers.size() != 1 && numbers.size() != rows)
        throw py::value_error("prox: there must be one number, or one for each row");
    return numbers.size() == 1 ? 0 : 1;
}

template <class T>
bool elements(int operation, const Array<T>& v, Array<T>& out, const Array<T>& constants,
              int num_threads, int look) {
    check(v, out);
    const py::ssize_t rows = v.shape(0), columns = v.shape(1);
    if (constants.ndim() != 3 || (constants.shape(1) != 1 && constants.shape(1) != rows) ||
        (constants.shape(2) != 1 && constants.shape(2) != columns) ||
        constants.shape(0) > most_constants || constants.shape(0) < 1)
        throw py::value_error("prox: constants must have shape (constants, rows, columns)");
    const std::int64_t each_row = constants.shape(2);
    ElementJob<T> job{static_cast<ProxOperation>(operation),
                      rows,
                      columns,
                      v.data(),
                      out.mutable_data(),
                      constants.data(),
                      constants.shape(1) * each_row,
                      constants.shape(1) == 1 ? 0 : each_row,
                      each_row != 1,
                      nullptr,
                      num_threads};
    if (job.row_stride == 0 && !job.by_column) {  // all elements are alike: one long row
        job.columns = rows * columns;
        job.rows = 1;
    }
    return call_looking(kernels<T>().elements, job, look);
}

template <class T>
bool rows(int operation, const Array<T>& v, Array<T>& out, const Numbers& numbers, int num_threads,
          int look) {
    check(v, out);
    const RowJob<T> job{static_cast<RowOperation>(operation),
                        v.shape(0),
                        v.shape(1),
                        v.data(),
                        out.mutable_data(),
                        numbers.data(),
                        stride_of(numbers, v.shape(0)),
                        num_threads};
    return call(kernels<T>().rows, job, look != no_look);
}

template <class T>
bool groups(const Array<T>& v, Array<T>& out, const Array<std::int64_t>& offsets,
            const OptionalArray<std::int64_t>& indices, const Numbers& weights, const Numbers& soft,
            const Numbers& shrink, int num_threads, int look) {
    check(v, out);
    const std::int64_t count = weights.size();
    const std::int64_t columns = v.shape(1);
    bool inside = offsets.size() == count + 1 && offsets.data()[0] == 0 &&
                  offsets.data()[count] == columns && soft.size() == shrink.size() &&
                  (!indices || indices->size() == columns);
    for (std::int64_t g = 0; inside && g < count; ++g)
        inside = offsets.data()[g] <= offsets.data()[g + 1];
    for (std::int64_t j = 0; inside && indices && j < columns; ++j)
        inside = indices->data()[j] >= 0 && indices->data()[j] < columns;
    if (!inside) throw py::value_error("prox: the groups do not fit the columns");
    const GroupJob<T> job{v.shape(0),
                          columns,
                          count,
                          v.data(),
                          out.mutable_data(),
                          offsets.data(),
                          data_or_null(indices),
                          weights.data(),
                          soft.data(),
                          shrink.data(),
                          stride_of(shrink, v.shape(0)),
                          nullptr,
                          num_threads};
    return call_looking(kernels<T>().groups, job, look);
}

template <class T>
bool top(const Array<T>& v, Array<T>& out, std::int64_t keep, int num_threads, int look) {
    check(v, out);
    if (keep < 1 || keep > v.shape(1)) throw py::value_error("prox: keep is out of range");
    const TopJob<T> job{v.shape(0), v.shape(1), keep, v.data(), out.mutable_data(), num_threads};
    return call(kernels<T>().top, job, look != no_look);
}

template <class T>
bool variation(const Array<T>& v, Array<T>& out, const Numbers& numbers, int num_threads,
               int look) {
    check(v, out);
    const VariationJob<T> job{v.shape(0),         v.shape(1),     v.data(),
                              out.mutable_data(), numbers.data(), stride_of(numbers, v.shape(0)),
                              num_threads};
    return call(kernels<T>().variation, job, look != no_look);
}

template <class T>
void define_prox(py::module_& module, const std::string& suffix) {
    module.def(("prox_elements_" + suffix).c_str(), &elements<T>, py::arg("operation"),
               py::arg("v").noconvert(), py::arg("out").noconvert(),
               py::arg("constants").noconvert(), py::arg("num_threads"), py::arg("look") = 0);
    module.def(("prox_rows_" + suffix).c_str(), &rows<T>, py::arg("operation"),
               py::arg("v").noconvert(), py::arg("out").noconvert(), py::arg("numbers").noconvert(),
               py::arg("num_threads"), py::arg("look") = 0);
    module.def(("prox_groups_" + suffix).c_str(), &groups<T>, py::arg("v").noconvert(),
               py::arg("out").noconvert(), py::arg("offsets").noconvert(),
               py::arg("indices").noconvert(), py::arg("weights").noconvert(),
               py::arg("soft").noconvert(), py::arg("shrink").noconvert(), py::arg("num_threads"),
               py::arg("look") = 0);
    module.def(("prox_top_" + suffix).c_str(), &top<T>, py::arg("v").noconvert(),
               py::arg("out").noconvert(), py::arg("keep"), py::arg("num_threads"),
               py::arg("look") = 0);
    module.def(("prox_variation_" + suffix).c_str(), &variation<T>, py::arg("v").noconvert(),
               py::arg("out").noconvert(), py::arg("numbers").noconvert(), py::arg("num_threads"),
               py::arg("look") = 0);
}

}  // namespace

void register_prox(py::module_& module) {
    define_prox<float>(module, "float32");
    define_prox<double>(module, "float64");
}

}  // namespace hl
