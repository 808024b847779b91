#include <pybind11/pybind11.h>

#include "../core/bind_arrays.hpp"
#include "../core/dispatch.hpp"
#include "kernels.hpp"

namespace py = pybind11;

HL_DECLARE_TABLES(RandomTable, random_table)

namespace hl {
namespace {

template <class T>
void fill(RandomKernel<T> kernel, Array<T>& out, std::uint64_t seed, std::uint32_t stream,
          const Array<std::int64_t>& steps, const Array<std::int64_t>& chains,
          std::int64_t first_coordinate, int num_threads) {
    if (out.ndim() != 3 || out.shape(0) != steps.size() || out.shape(1) != chains.size()) {
        throw py::value_error("random: out must have shape (steps, chains, coordinates)");
    }
    T* const target = out.mutable_data();
    const RandomGrid grid{seed,          stream,        steps.data(),     steps.size(),
                          chains.data(), chains.size(), first_coordinate, out.shape(2),
                          num_threads};
    if (out.size() == 0) return;
    Status status = Status::success();
    {
        py::gil_scoped_release release;
        status = kernel(grid, target);
    }
    throw_status(status);
}

template <class T, class Choose>
void define_fill(py::module_& module, const char* name, Choose choose) {
    module.def(
        name,
        [choose](Array<T> out, std::uint64_t seed, std::uint32_t stream,
                 const Array<std::int64_t>& steps, const Array<std::int64_t>& chains,
                 std::int64_t first_coordinate, int num_threads) {
            fill<T>(choose(HL_ACTIVE_TABLE(random_table)), out, seed, stream, steps, chains,
                    first_coordinate, num_threads);
        },
        py::arg("out").noconvert(), py::arg("seed"), py::arg("stream"),
        py::arg("steps").noconvert(), py::arg("chains").noconvert(), py::arg("first_coordinate"),
        py::arg("num_threads"));
}

void philox(Array<std::uint32_t> out, const Array<std::uint32_t>& counters,
            const Array<std::uint32_t>& keys, int num_threads) {
    const std::int64_t count = counters.size() / 4;
    if (counters.size() != 4 * count || keys.size() != 2 * count || out.size() != 4 * count) {
        throw py::value_error("philox: counters, keys and out must agree in length");
    }
    std::uint32_t* const target = out.mutable_data();
    Status status = Status::success();
    {
        py::gil_scoped_release release;
        status = HL_ACTIVE_TABLE(random_table)
                     .philox(counters.data(), keys.data(), count, num_threads, target);
    }
    throw_status(status);
}

}  // namespace

void register_random(py::module_& module) {
    define_fill<float>(module, "random_normals",
                       [](const RandomTable& t) { return t.normals_f32; });
    define_fill<double>(module, "random_normals",
                        [](const RandomTable& t) { return t.normals_f64; });
    define_fill<float>(module, "random_uniforms",
                       [](const RandomTable& t) { return t.uniforms_f32; });
    define_fill<double>(module, "random_uniforms",
                        [](const RandomTable& t) { return t.uniforms_f64; });
    module.def("random_philox", &philox, py::arg("out").noconvert(),
               py::arg("counters").noconvert(), py::arg("keys").noconvert(),
               py::arg("num_threads"));
}

}  // namespace hl
