#include <pybind11/pybind11.h>

#include "../core/bind_cuda.hpp"
#include "cuda.hpp"

namespace py = pybind11;

namespace hl {
namespace {

// Shape and addresses of a bulk fill. _cuda.py has checked what the addresses lead to.
template <class T>
using Fill = Status (*)(const RandomGrid* grid, T* out, const CudaCall* call);

template <class T>
void define_fill(py::module_& module, const char* name, Fill<T> fill) {
    module.def(
        name,
        [fill](Address out, std::uint64_t seed, std::uint32_t stream_of_numbers, Address steps,
               std::int64_t num_steps, Address chains, std::int64_t num_chains,
               std::int64_t first_coordinate, std::int64_t num_coordinates, int device,
               Address stream) {
            const RandomGrid grid{seed,
                                  stream_of_numbers,
                                  pointer<const std::int64_t>(steps),
                                  num_steps,
                                  pointer<const std::int64_t>(chains),
                                  num_chains,
                                  first_coordinate,
                                  num_coordinates,
                                  1};
            on_stream(device, stream,
                      [&](const CudaCall* call) { return fill(&grid, pointer<T>(out), call); });
        },
        py::arg("out"), py::arg("seed"), py::arg("stream_of_numbers"), py::arg("steps"),
        py::arg("num_steps"), py::arg("chains"), py::arg("num_chains"), py::arg("first_coordinate"),
        py::arg("num_coordinates"), py::arg("device"), py::arg("stream"));
}

void philox(Address counters, Address keys, std::int64_t count, Address out, int device,
            Address stream) {
    on_stream(device, stream, [&](const CudaCall* call) {
        return hl_cuda_random_philox(pointer<const std::uint32_t>(counters),
                                     pointer<const std::uint32_t>(keys), count,
                                     pointer<std::uint32_t>(out), call);
    });
}

}  // namespace

void register_random_cuda(py::module_& module) {
    define_fill<float>(module, "random_normals_float32", hl_cuda_random_normals_f32);
    define_fill<double>(module, "random_normals_float64", hl_cuda_random_normals_f64);
    define_fill<float>(module, "random_uniforms_float32", hl_cuda_random_uniforms_f32);
    define_fill<double>(module, "random_uniforms_float64", hl_cuda_random_uniforms_f64);
    module.def("random_philox", &philox, py::arg("counters"), py::arg("keys"), py::arg("count"),
               py::arg("out"), py::arg("device"), py::arg("stream"));
}

}  // namespace hl
