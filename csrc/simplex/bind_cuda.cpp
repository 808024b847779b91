#include <pybind11/pybind11.h>

#include <string>

#include "../core/bind_cuda.hpp"
#include "cuda.hpp"

namespace py = pybind11;

namespace hl {
namespace {

// The device arrays of a run by their addresses, bound once; each call advances them by as many
// steps as one launch takes. _cuda.py has checked what the addresses lead to.
template <class T>
struct CudaChains {
    SimplexChains<T> view;
    int device;
    Address stream, workspace;
    std::int64_t workspace_bytes;

    CudaChains(Address x, Address value, Address best_x, Address best_value, Address smallest,
               Address sums, Address squares, Address floored, Address clipped, Address accepted,
               Address flags, Address failed_at, Address step_sizes, Address temperatures,
               Address alpha, Address offsets, std::int64_t num_chains, std::int64_t dim,
               std::int64_t num_simplices, int on_device, Address on_stream)
        : view{}, device(on_device), stream(on_stream), workspace(0), workspace_bytes(0) {
        require(num_chains >= 0 && dim >= 1 && num_simplices >= 1,
                "simplex: x must have shape (chains, dim)");
        view.x = pointer<T>(x);
        view.value = pointer<T>(value);
        view.best_x = pointer<T>(best_x);
        view.best_value = pointer<T>(best_value);
        view.smallest = pointer<T>(smallest);
        view.sums = pointer<double>(sums);
        view.squares = pointer<double>(squares);
        view.floored = pointer<std::int64_t>(floored);
        view.clipped = pointer<std::int64_t>(clipped);
        view.accepted = pointer<std::int64_t>(accepted);
        view.flags = pointer<std::uint8_t>(flags);
        view.failed_at = pointer<std::int64_t>(failed_at);
        view.step_sizes = pointer<const T>(step_sizes);
        view.temperatures = pointer<const T>(temperatures);
        view.alpha = pointer<const T>(alpha);
        view.offsets = pointer<const std::int32_t>(offsets);
        view.num_chains = num_chains;
        view.dim = dim;
        view.num_simplices = num_simplices;
    }

    void set_workspace(Address address, std::int64_t bytes) {
        workspace = address;
        workspace_bytes = bytes;
    }
    void set_moments(Address products, Address histogram, std::int64_t num_bins) {
        view.products = pointer<double>(products);
        view.histogram = pointer<std::int64_t>(histogram);
        view.num_bins = num_bins;
    }
    void set_acceleration(Address auxiliary, Address accelerations, T convexity) {
        view.auxiliary = pointer<T>(auxiliary);
        view.accelerations = pointer<const T>(accelerations);
        view.convexity = convexity;
    }
    void set_schedule(Address step_factors, Address temperature_factors) {
        view.step_factors = pointer<const T>(step_factors);
        view.temperature_factors = pointer<const T>(temperature_factors);
    }
    void set_gradient(Address gradient) { view.gradient = pointer<T>(gradient); }
    void set_noise(Address noise) { view.noise = pointer<const T>(noise); }
    void set_terms(T ridge, T entropy, T turnover, T smoothing, T penalty, Address anchor,
                   Address upper, Address caps, Address group_offsets, Address group_members,
                   std::int64_t num_groups) {
        view.terms = {ridge,
                      entropy,
                      turnover,
                      smoothing,
                      penalty,
                      pointer<const T>(anchor),
                      pointer<const T>(upper),
                      pointer<const T>(caps),
                      pointer<const std::int32_t>(group_offsets),
                      pointer<const std::int32_t>(group_members),
                      num_groups,
                      true};
    }
    void set_step(int form, bool noisy, bool corrected, bool accumulate, T floor_scale,
                  T floor_least, T clip) {
        require(form >= 0 && form <= 5, "simplex: no such form");
        view.form = static_cast<SimplexForm>(form);
        view.noisy = noisy;
        view.corrected = corrected;
        view.accumulate = accumulate;
        view.floor_scale = floor_scale;
        view.floor_least = floor_least;
        view.clip = clip;
    }
};

// module.name(chains, seed, chain_offset, first_step, num_steps, *parameters) queues one launch
// and returns the number of steps it makes, all of them at the end of a run;
// module.name_workspace(chains, *parameters) tells the bytes it needs.
template <class T, template <class> class Problem, class... Parameters, class Make>
void define(py::module_& module, const std::string& name, SimplexCudaEntry<T, Problem> entry,
            Make make) {
    module.def(name.c_str(), [entry, make](const CudaChains<T>& bound, std::uint64_t seed,
                                           std::int64_t chain_offset, std::int64_t first_step,
                                           std::int64_t num_steps, Parameters... parameters) {
        const Problem<T> problem = make(parameters...);
        SimplexChains<T> chains = bound.view;
        chains.seed = seed;
        chains.chain_offset = chain_offset;
        chains.first_step = first_step;
        chains.num_steps = num_steps;
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
               [entry, make](const CudaChains<T>& bound, Parameters... parameters) {
                   const Problem<T> problem = make(parameters...);
                   return entry.workspace(&bound.view, &problem);
               });
}

template <class T>
SimplexPolynomial<T> make_polynomial(Address parents, Address factors, Address heights,
                                     Address widths, Address rows, Address columns,
                                     Address coefficients, std::int64_t num_products,
                                     std::int64_t num_blocks, std::int64_t num_coefficients) {
    return {pointer<const std::int32_t>(parents),
            pointer<const std::int32_t>(factors),
            pointer<const std::int32_t>(heights),
            pointer<const std::int32_t>(widths),
            pointer<const std::int32_t>(rows),
            pointer<const std::int32_t>(columns),
            pointer<const T>(coefficients),
            num_products,
            num_blocks,
            num_coefficients};
}

template <class T>
SimplexQuadratic<T> make_quadratic(Address matrix, Address linear) {
    return {pointer<const T>(matrix), pointer<const T>(linear)};
}

template <class T>
SimplexRidgeSum<T> make_ridge_sum(Address rows, Address weights, Address center, Address linear,
                                  int profile, Address coefficients, std::int64_t num_rows,
                                  std::int32_t num_coefficients, std::int64_t batch_size) {
    require(profile >= 0 && profile <= 5 && num_coefficients <= max_profile_coefficients,
            "simplex_ridge_sum: no such profile");
    require(batch_size >= 0 && num_rows <= (batch_size > 0 ? (1 << 20) : INT64_MAX),
            "simplex_ridge_sum: minibatches are drawn from at most 2^20 rows");
    return {pointer<const T>(rows),
            pointer<const T>(weights),
            pointer<const T>(center),
            pointer<const T>(linear),
            static_cast<SimplexProfile>(profile),
            pointer<const T>(coefficients),
            num_rows,
            num_coefficients,
            batch_size};
}

template <class T>
SimplexGiven<T> make_given(Address gradient) {
    return {pointer<const T>(gradient)};
}

template <class T>
using Project = Status (*)(T*, std::int64_t, std::int64_t, const CudaCall*);

template <class T>
void define_project(py::module_& module, const char* name, Project<T> run) {
    module.def(name, [run](Address x, std::int64_t rows, std::int64_t dim, int device,
                           Address stream, Address workspace, std::int64_t workspace_bytes) {
        const CudaCall call{pointer<void>(stream), pointer<void>(workspace), workspace_bytes};
        make_current(device);
        throw_status(run(pointer<T>(x), rows, dim, &call));
    });
}

template <class T>
struct Entries {
    SimplexCudaEntry<T, SimplexPolynomial> polynomial;
    SimplexCudaEntry<T, SimplexQuadratic> quadratic;
    SimplexCudaEntry<T, SimplexRidgeSum> ridge_sum;
    SimplexCudaEntry<T, SimplexGiven> given;
};

#define HL_ENTRY(name, suffix) \
    {hl_cuda_simplex_##name##suffix, hl_cuda_simplex_##name##_workspace##suffix}
#define HL_ENTRIES(suffix)                                                                   \
    {HL_ENTRY(polynomial, suffix), HL_ENTRY(quadratic, suffix), HL_ENTRY(ridge_sum, suffix), \
     HL_ENTRY(given, suffix)}

constexpr Entries<float> entries_f32 = HL_ENTRIES(_f32);
constexpr Entries<double> entries_f64 = HL_ENTRIES(_f64);

#undef HL_ENTRIES
#undef HL_ENTRY

template <class T>
void register_kernels(py::module_& module, const char* chains_name, const Entries<T>& entries) {
    using A = Address;
    using Size = std::int64_t;
    py::class_<CudaChains<T>>(module, chains_name)
        .def(py::init<A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, Size, Size, Size, int, A>())
        .def("set_workspace", &CudaChains<T>::set_workspace)
        .def("set_moments", &CudaChains<T>::set_moments)
        .def("set_acceleration", &CudaChains<T>::set_acceleration)
        .def("set_schedule", &CudaChains<T>::set_schedule)
        .def("set_gradient", &CudaChains<T>::set_gradient)
        .def("set_noise", &CudaChains<T>::set_noise)
        .def("set_terms", &CudaChains<T>::set_terms)
        .def("set_step", &CudaChains<T>::set_step);
    define<T, SimplexPolynomial, A, A, A, A, A, A, A, Size, Size, Size>(
        module, "simplex_polynomial", entries.polynomial, make_polynomial<T>);
    define<T, SimplexQuadratic, A, A>(module, "simplex_quadratic", entries.quadratic,
                                      make_quadratic<T>);
    define<T, SimplexRidgeSum, A, A, A, A, int, A, Size, std::int32_t, Size>(
        module, "simplex_ridge_sum", entries.ridge_sum, make_ridge_sum<T>);
    define<T, SimplexGiven, A>(module, "simplex_given", entries.given, make_given<T>);
}

}  // namespace

void register_simplex_cuda(py::module_& module) {
    register_kernels<float>(module, "SimplexChainsFloat32", entries_f32);
    register_kernels<double>(module, "SimplexChainsFloat64", entries_f64);
    define_project<float>(module, "simplex_project_float32", hl_cuda_simplex_project_f32);
    define_project<double>(module, "simplex_project_float64", hl_cuda_simplex_project_f64);
    module.def("simplex_launch_steps", &simplex_launch_steps, py::arg("first_step"),
               py::arg("num_steps"), py::arg("turns"), py::arg("cost"));
}

}  // namespace hl
