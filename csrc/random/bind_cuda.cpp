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
        [fill](std::uintptr_t out, std::uint64_t seed, std::uint32_t stream_of_numbers,
               std::uintptr_t steps, std::int64_t num_steps, std::uintptr_t chains,
               std::int64_t num_chains, std::int64_t first_coordinate, std::int64_t num_coordinates,
               int device, std::uintptr_t stream) {
            const RandomGrid grid{seed,
                                  stream_of_numbers,
                                  pointer<const std::int64_t>(steps),
                                  num_steps,
                                  pointer<const std::int64_t>(chains),
                                  num_chains,
                                  first_coordinate,
                                  num_coordinates,
                                  1};
            const CudaCall call{pointer<void>(stream), nullptr, 0};
            make_current(device);
            throw_status(fill(&grid, pointer<T>(out), &call));
        },
        py::arg("out"), py::arg("seed"), py::arg("stream_of_numbers"), py::arg("steps"),
        py::arg("num_steps"), py::arg("chains"), py::arg("num_chains"), py::arg("first_coordinate"),
        py::arg("num_coordinates"), py::arg("device"), py::arg("stream"));
}

void philox(std::uintptr_t counters, std::uintptr_t keys, std::int64_t count, std::uintptr_t out,
            int device, std::uintptr_t stream) {
    const CudaCall call{pointer<void>(stream), nullptr, 0};
    make_current(device);
    throw_status(hl_cuda_random_philox(pointer<const std::uint32_t>(counters),
                                       pointer<const std::uint32_t>(keys), count,
                                       pointer<std::uint32_t>(out), &call));
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
