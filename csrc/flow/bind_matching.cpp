#include <pybind11/pybind11.h>

#include <string>

#include "../core/bind_arrays.hpp"
#include "../core/dispatch.hpp"
#include "bind.hpp"
#include "matching_kernels.hpp"

namespace py = pybind11;

HL_DECLARE_TABLES(FlowMatchingTable, flow_matching_table)

namespace hl {
namespace {

// What makes the batches of some steps; keeps alive what it reads. For nn_train: `address` is the
// function that fills a batch, `context` what it is given.
template <class T>
class Matching {
  public:
    Matching(Array<T> z, Array<T> sizes, Array<std::int32_t> labels, Array<std::int64_t> rows,
             std::int64_t first_step, double sigma, double p_cond, bool optimal, bool per_batch,
             bool together, bool antithetic, std::uint64_t seed)
        : z_(std::move(z)),
          sizes_(std::move(sizes)),
          labels_(std::move(labels)),
          rows_(std::move(rows)) {
        require(z_.ndim() == 2 && sizes_.ndim() == 2 && labels_.ndim() == 2 && rows_.ndim() == 2,
                "flow_matching: z, sizes, labels and rows must have two dimensions");
        const std::int64_t n = z_.shape(0);
        require(sizes_.shape(1) == n && labels_.shape(1) == n,
                "flow_matching: sizes and labels must have a column for each row of z");
        require(first_step >= 0, "flow_matching: first_step must not be negative");
        const std::int64_t* const row = rows_.data();
        for (py::ssize_t i = 0; i < rows_.size(); ++i)
            require(row[i] >= 0 && row[i] < n, "flow_matching: a row is outside the training set");
        call_ = {z_.data(),        n,
                 z_.shape(1),      sizes_.data(),
                 sizes_.shape(0),  labels_.data(),
                 labels_.shape(0), rows_.data(),
                 rows_.shape(0),   rows_.shape(1),
                 first_step,       sigma,
                 p_cond,           optimal,
                 per_batch,        together,
                 antithetic,       seed};
    }

    static std::uintptr_t address() {
        const FlowMatchingTable& table = HL_ACTIVE_TABLE(flow_matching_table);
        if constexpr (sizeof(T) == sizeof(float)) {
            return reinterpret_cast<std::uintptr_t>(table.f32);
        } else {
            return reinterpret_cast<std::uintptr_t>(table.f64);
        }
    }

    std::uintptr_t context() { return reinterpret_cast<std::uintptr_t>(&call_); }

  private:
    Array<T> z_, sizes_;
    Array<std::int32_t> labels_;
    Array<std::int64_t> rows_;
    FlowMatching<T> call_;
};

template <class T>
void define_matching(py::module_& module, const char* name) {
    py::class_<Matching<T>>(module, name)
        .def(py::init<Array<T>, Array<T>, Array<std::int32_t>, Array<std::int64_t>, std::int64_t,
                      double, double, bool, bool, bool, bool, std::uint64_t>(),
             py::arg("z").noconvert(), py::arg("sizes").noconvert(), py::arg("labels").noconvert(),
             py::arg("rows").noconvert(), py::arg("first_step"), py::arg("sigma"),
             py::arg("p_cond"), py::arg("optimal"), py::arg("per_batch"), py::arg("together"),
             py::arg("antithetic"), py::arg("seed"))
        .def_property_readonly("address", [](const Matching<T>&) { return Matching<T>::address(); })
        .def_property_readonly("context", &Matching<T>::context);
}

}  // namespace

void register_flow_matching(py::module_& module) {
    define_matching<float>(module, "FlowMatchingFloat32");
    define_matching<double>(module, "FlowMatchingFloat64");
}

}  // namespace hl
