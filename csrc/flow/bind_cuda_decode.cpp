#include <pybind11/pybind11.h>

#include "bind_cuda.hpp"
#include "cuda_decode.hpp"

namespace py = pybind11;

namespace hl {
namespace {

// _cuda_decode.py has checked what the addresses lead to. One of `counts` and `means` is not 0.
template <class T>
void define_decode(py::module_& module, const char* name,
                   Status (*kernel)(const DecodeJob<T>*, const CudaCall*)) {
    module.def(
        name,
        [kernel](int head, std::int64_t rows, std::int64_t columns, Address logits, Address bias,
                 Address sizes, Address theta, Address theta_of, std::uint64_t seed,
                 std::int64_t step, std::int64_t first_row, Address counts, Address means,
                 Address row_counts, int device, Address stream) {
            const DecodeJob<T> job{static_cast<CountHead>(head),
                                   rows,
                                   columns,
                                   columns,
                                   pointer<const T>(logits),
                                   nullptr,
                                   pointer<const T>(bias),
                                   pointer<const double>(sizes),
                                   pointer<const double>(theta),
                                   pointer<const std::int64_t>(theta_of),
                                   seed,
                                   step,
                                   first_row,
                                   pointer<std::int32_t>(counts),
                                   pointer<T>(means),
                                   nullptr,
                                   pointer<std::int64_t>(row_counts),
                                   1};
            on_stream(device, stream, [&](const CudaCall* call) { return kernel(&job, call); });
        },
        py::arg("head"), py::arg("rows"), py::arg("columns"), py::arg("logits"), py::arg("bias"),
        py::arg("sizes"), py::arg("theta"), py::arg("theta_of"), py::arg("seed"), py::arg("step"),
        py::arg("first_row"), py::arg("counts"), py::arg("means"), py::arg("row_counts"),
        py::arg("device"), py::arg("stream"));
}

}  // namespace

void register_flow_decode_cuda(py::module_& module) {
    define_decode(module, "flow_decode_float32", hl_cuda_flow_decode_f32);
    define_decode(module, "flow_decode_float64", hl_cuda_flow_decode_f64);
}

}  // namespace hl
