#include <pybind11/pybind11.h>

#include <string>

#include "../core/bind_cuda.hpp"
#include "cuda.hpp"

namespace py = pybind11;

namespace hl {
namespace {

void require(bool condition, const char* message) {
    if (!condition) throw py::value_error(message);
}

// The device arrays of a run by their addresses, bound once; each call advances them by as many
// steps as one launch takes. _cuda.py has checked what the addresses lead to.
template <class T>
struct CudaChains {
    SgdChains<T> view;
    int device;
    std::uintptr_t stream, workspace;
    std::int64_t workspace_bytes;

    CudaChains(std::uintptr_t theta, std::uintptr_t sums, std::uintptr_t flags,
               std::uintptr_t diverged_at, std::uintptr_t step_sizes, std::int64_t num_chains,
               std::int64_t num_step_sizes, std::int64_t dim, int on_device,
               std::uintptr_t on_stream)
        : view{}, device(on_device), stream(on_stream), workspace(0), workspace_bytes(0) {
        require(num_chains >= 0 && num_step_sizes >= 1 && dim >= 1,
                "sgd: theta must have shape (chains, step sizes, dim)");
        view.theta = pointer<T>(theta);
        view.sums = pointer<double>(sums);
        view.flags = pointer<std::uint8_t>(flags);
        view.diverged_at = pointer<std::int64_t>(diverged_at);
        view.step_sizes = pointer<const T>(step_sizes);
        view.num_chains = num_chains;
        view.num_step_sizes = num_step_sizes;
        view.dim = dim;
    }

    void set_workspace(std::uintptr_t address, std::int64_t bytes) {
        workspace = address;
        workspace_bytes = bytes;
    }

    SgdChains<T> at(std::uint64_t seed, std::int64_t chain_offset, std::int64_t first_step,
                    std::int64_t num_steps, bool accumulate, T divergence_limit) const {
        SgdChains<T> chains = view;
        chains.seed = seed;
        chains.chain_offset = chain_offset;
        chains.first_step = first_step;
        chains.num_steps = num_steps;
        chains.accumulate = accumulate;
        chains.divergence_limit = divergence_limit;
        return chains;
    }
};

// module.name(chains, seed, ..., divergence_limit, *parameters) queues one launch and returns the
// number of steps it makes; module.name_workspace(chains) tells the bytes it can use.
template <class T, template <class> class Problem, class... Parameters, class Make>
void define(py::module_& module, const std::string& name, SgdCudaEntry<T, Problem> entry,
            Make make) {
    module.def(name.c_str(), [entry, make](const CudaChains<T>& bound, std::uint64_t seed,
                                           std::int64_t chain_offset, std::int64_t first_step,
                                           std::int64_t num_steps, bool accumulate,
                                           T divergence_limit, Parameters... parameters) {
        const Problem<T> problem = make(parameters...);
        const SgdChains<T> chains =
            bound.at(seed, chain_offset, first_step, num_steps, accumulate, divergence_limit);
        const CudaCall call{pointer<void>(bound.stream), pointer<void>(bound.workspace),
                            bound.workspace_bytes};
        make_current(bound.device);
        std::int64_t done = 0;
        Status status = Status::success();
        {
            py::gil_scoped_release release;
            status = entry.run(&chains, &problem, &call, &done);
        }
        throw_status(status);
        return done;
    });
    module.def((name + "_workspace").c_str(),
               [entry](const CudaChains<T>& bound) { return entry.workspace(&bound.view); });
}

template <class T>
SgdQuadratic<T> make_quadratic(std::uintptr_t curvature, std::uintptr_t minimizer,
                               std::uintptr_t noise_scale) {
    return {pointer<const T>(curvature), pointer<const T>(minimizer),
            pointer<const T>(noise_scale)};
}

template <class T>
SgdQuadraticFull<T> make_quadratic_full(std::uintptr_t matrix, std::uintptr_t minimizer,
                                        std::uintptr_t noise_factor) {
    return {pointer<const T>(matrix), pointer<const T>(minimizer), pointer<const T>(noise_factor)};
}

template <class T>
SgdCosine<T> make_cosine(T phase, T noise_scale) {
    return {phase, noise_scale};
}

template <class T>
SgdRows<T> make_rows(std::uintptr_t features, std::uintptr_t targets, std::int64_t num_rows,
                     std::int64_t batch_size, int sampling, T l2) {
    require(num_rows >= 1 && num_rows <= 0xffffffffLL && batch_size >= 1 && sampling >= 0 &&
                sampling <= 2,
            "sgd_rows: features must have shape (rows, dim), targets (rows,)");
    return {pointer<const T>(features),
            pointer<const T>(targets),
            num_rows,
            batch_size,
            static_cast<Sampling>(sampling),
            l2};
}

#define HL_ENTRY(name, suffix) {hl_cuda_sgd_##name##suffix, hl_cuda_sgd_##name##_workspace##suffix}

template <class T>
struct Entries {
    SgdCudaEntry<T, SgdQuadratic> quadratic;
    SgdCudaEntry<T, SgdQuadraticFull> quadratic_full;
    SgdCudaEntry<T, SgdCosine> cosine;
    SgdCudaEntry<T, SgdRows> least_squares, logistic;
};

constexpr Entries<float> entries_f32 = {
    HL_ENTRY(quadratic, _f32),     HL_ENTRY(quadratic_full, _f32), HL_ENTRY(cosine, _f32),
    HL_ENTRY(least_squares, _f32), HL_ENTRY(logistic, _f32),
};
constexpr Entries<double> entries_f64 = {
    HL_ENTRY(quadratic, _f64),     HL_ENTRY(quadratic_full, _f64), HL_ENTRY(cosine, _f64),
    HL_ENTRY(least_squares, _f64), HL_ENTRY(logistic, _f64),
};

#undef HL_ENTRY

template <class T>
void register_kernels(py::module_& module, const char* chains_name, const Entries<T>& entries) {
    using Address = std::uintptr_t;
    using Size = std::int64_t;
    py::class_<CudaChains<T>>(module, chains_name)
        .def(
            py::init<Address, Address, Address, Address, Address, Size, Size, Size, int, Address>(),
            py::arg("theta"), py::arg("sums"), py::arg("flags"), py::arg("diverged_at"),
            py::arg("step_sizes"), py::arg("num_chains"), py::arg("num_step_sizes"), py::arg("dim"),
            py::arg("device"), py::arg("stream"))
        .def("set_workspace", &CudaChains<T>::set_workspace, py::arg("address"), py::arg("bytes"));
    define<T, SgdQuadratic, Address, Address, Address>(module, "sgd_quadratic", entries.quadratic,
                                                       make_quadratic<T>);
    define<T, SgdQuadraticFull, Address, Address, Address>(
        module, "sgd_quadratic_full", entries.quadratic_full, make_quadratic_full<T>);
    define<T, SgdCosine, T, T>(module, "sgd_cosine", entries.cosine, make_cosine<T>);
    define<T, SgdRows, Address, Address, Size, Size, int, T>(module, "sgd_least_squares",
                                                             entries.least_squares, make_rows<T>);
    define<T, SgdRows, Address, Address, Size, Size, int, T>(module, "sgd_logistic",
                                                             entries.logistic, make_rows<T>);
}

}  // namespace

void register_sgd_cuda(py::module_& module) {
    register_kernels<float>(module, "SgdChainsFloat32", entries_f32);
    register_kernels<double>(module, "SgdChainsFloat64", entries_f64);
    module.def("sgd_launch_steps", &sgd_launch_steps, py::arg("first_step"), py::arg("num_steps"),
               py::arg("threads"), py::arg("cost"));
    module.attr("sgd_operation_cost_float32") = sgd_operation_cost<float>;
    module.attr("sgd_operation_cost_float64") = sgd_operation_cost<double>;
}

}  // namespace hl
