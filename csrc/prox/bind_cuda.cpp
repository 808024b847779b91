#include <pybind11/pybind11.h>

#include <string>

#include "../core/bind_cuda.hpp"
#include "cuda.hpp"

namespace py = pybind11;

namespace hl {
namespace {

// _cuda.py has checked what the addresses lead to.
template <class T, class Elements, class Rows, class Groups>
void define_prox(py::module_& module, const std::string& suffix, Elements elements, Rows rows,
                 Groups groups) {
    module.def(("prox_elements_" + suffix).c_str(),
               [elements](int operation, std::int64_t num_rows, std::int64_t columns, Address v,
                          Address out, Address constants, std::int64_t constant_stride,
                          std::int64_t row_stride, bool by_column, int device, Address stream) {
                   call_on_stream(elements,
                                  ElementJob<T>{static_cast<ProxOperation>(operation), num_rows,
                                                columns, pointer<const T>(v), pointer<T>(out),
                                                pointer<const T>(constants), constant_stride,
                                                row_stride, by_column, nullptr, 1},
                                  device, stream);
               });
    module.def(
        ("prox_rows_" + suffix).c_str(),
        [rows](int operation, std::int64_t num_rows, std::int64_t columns, Address v, Address out,
               Address numbers, std::int64_t number_stride, int device, Address stream) {
            call_on_stream(rows,
                           RowJob<T>{static_cast<RowOperation>(operation), num_rows, columns,
                                     pointer<const T>(v), pointer<T>(out),
                                     pointer<const double>(numbers), number_stride, 1},
                           device, stream);
        });
    module.def(
        ("prox_groups_" + suffix).c_str(),
        [groups](std::int64_t num_rows, std::int64_t columns, std::int64_t num_groups, Address v,
                 Address out, Address offsets, Address indices, Address weights, Address soft,
                 Address shrink, std::int64_t number_stride, int device, Address stream) {
            call_on_stream(groups,
                           GroupJob<T>{num_rows, columns, num_groups, pointer<const T>(v),
                                       pointer<T>(out), pointer<const std::int64_t>(offsets),
                                       pointer<const std::int64_t>(indices),
                                       pointer<const double>(weights), pointer<const double>(soft),
                                       pointer<const double>(shrink), number_stride, nullptr, 1},
                           device, stream);
        });
}

}  // namespace

void register_prox_cuda(py::module_& module) {
    define_prox<float>(module, "float32", hl_cuda_prox_elements_f32, hl_cuda_prox_rows_f32,
                       hl_cuda_prox_groups_f32);
    define_prox<double>(module, "float64", hl_cuda_prox_elements_f64, hl_cuda_prox_rows_f64,
                        hl_cuda_prox_groups_f64);
}

}  // namespace hl
