#include <cmath>
#include <tuple>

#include "../core/bind_status.hpp"
#include "../core/dispatch.hpp"
#include "bind_chains.hpp"

HL_DECLARE_TABLES(SgdTable, sgd_table)

namespace hl {
namespace {

template <class T>
const SgdKernels<T>& kernels() {
    if constexpr (sizeof(T) == 4) {
        return HL_ACTIVE_TABLE(sgd_table).f32;
    } else {
        return HL_ACTIVE_TABLE(sgd_table).f64;
    }
}

// The name of a parameter.
template <class>
using Name = const char*;

// module.name(chains, seed, ..., num_threads, rules, statistics, *parameters): `make` turns the
// parameters of the problem into what the kernel takes, and checks that no pointer can be read
// beyond its end.
template <class T, template <class> class Problem, class... Parameters>
void define(py::module_& module, const char* name, SgdKernel<T, Problem> SgdKernels<T>::* kernel,
            Problem<T> (*make)(const Chains<T>&, const Parameters&...), Name<Parameters>... names) {
    const auto call = [kernel, make](Chains<T>& chains, std::uint64_t seed,
                                     std::int64_t chain_offset, std::int64_t first_step,
                                     std::int64_t num_steps, bool accumulate, T divergence_limit,
                                     int num_threads, const Rules<T>* rules, Statistics* statistics,
                                     const Parameters&... parameters) {
        const Problem<T> problem = make(chains, parameters...);
        const SgdChains<T> view = chains.view(seed, chain_offset, first_step, num_steps, accumulate,
                                              divergence_limit, num_threads, rules, statistics);
        Status status = Status::success();
        {
            py::gil_scoped_release release;
            status = (kernels<T>().*kernel)(view, problem);
        }
        throw_status(status);
    };
    module.def(name, call, py::arg("chains"), py::arg("seed"), py::arg("chain_offset"),
               py::arg("first_step"), py::arg("num_steps"), py::arg("accumulate"),
               py::arg("divergence_limit"), py::arg("num_threads"), py::arg("rules"),
               py::arg("statistics"), py::arg(names)...);
}

// (law, degrees of freedom, table).
template <class T>
using Noise = std::tuple<int, double, Array<T>>;

template <class T>
SgdNoise<T> make_noise(const Noise<T>& noise) {
    const auto& [number, df, table] = noise;
    require(number >= 0 && number <= 6, "sgd: the law of the noise must be 0 to 6");
    SgdNoise<T> made;
    made.law = static_cast<NoiseLaw>(number);
    made.df = df;
    made.table = table.data();
    made.table_size = table.size();
    require(made.law != NoiseLaw::student_t || df > 2, "sgd: df must be above 2");
    require(made.law != NoiseLaw::table || (table.size() >= 1 && table.size() <= 1 << 20),
            "sgd: the table of the noise must have 1 to 2**20 values");
    return made;
}

template <class T>
SgdQuadratic<T> make_quadratic(const Chains<T>& chains, const Array<T>& curvature,
                               const Array<T>& minimizer, const Array<T>& noise_scale,
                               const Noise<T>& noise) {
    require(curvature.size() == chains.dim() && minimizer.size() == chains.dim() &&
                noise_scale.size() == chains.dim(),
            "sgd_quadratic: parameters must have shape (dim,)");
    return {curvature.data(), minimizer.data(), noise_scale.data(), make_noise<T>(noise)};
}

template <class T>
SgdQuadraticFull<T> make_quadratic_full(const Chains<T>& chains, const Array<T>& matrix,
                                        const Array<T>& minimizer, const Array<T>& noise_factor,
                                        const Noise<T>& noise) {
    const std::int64_t d = chains.dim();
    require(matrix.size() == d * d && minimizer.size() == d && noise_factor.size() == d * d,
            "sgd_quadratic_full: parameters must have shapes (dim, dim), (dim,), (dim, dim)");
    return {matrix.data(), minimizer.data(), noise_factor.data(), make_noise<T>(noise)};
}

template <class T>
SgdCosine<T> make_cosine(const Chains<T>&, const T& phase, const T& noise_scale,
                         const Noise<T>& noise) {
    return {phase, noise_scale, make_noise<T>(noise)};
}

template <class T>
SgdRows<T> make_rows(const Chains<T>& chains, const Array<T>& features, const Array<T>& targets,
                     const std::int64_t& batch_size, const int& sampling, const T& l2,
                     const T& shape) {
    require(features.ndim() == 2 && features.shape(1) == chains.dim() &&
                targets.size() == features.shape(0) && features.shape(0) >= 1 &&
                features.shape(0) <= 0xffffffffLL && batch_size >= 1 && sampling >= 0 &&
                sampling <= 2,
            "sgd_rows: features must have shape (rows, dim), targets (rows,)");
    return {features.data(),
            targets.data(),
            features.shape(0),
            batch_size,
            static_cast<Sampling>(sampling),
            l2,
            shape};
}

template <class T>
SgdStreaming<T> make_streaming(const Chains<T>& chains, const Array<T>& theta_true,
                               const Array<T>& factor, const T& noise_scale, const T& l2,
                               const double& rho) {
    const std::int64_t d = chains.dim();
    const bool full = factor.ndim() == 2;
    require(theta_true.size() == d && factor.size() == (full ? d * d : d),
            "sgd_streaming: theta must have shape (dim,), the factor (dim,) or (dim, dim)");
    require(rho > -1 && rho < 1, "sgd_streaming: rho must lie between -1 and 1");
    require(rho == 0 || chains.num_auxiliary() == d,
            "sgd_streaming: auxiliary must have shape (chains, dim)");
    return {theta_true.data(),
            factor.data(),
            full,
            noise_scale,
            l2,
            rho != 0,
            static_cast<T>(rho),
            static_cast<T>(std::sqrt(1 - rho * rho))};
}

template <class T>
SgdMarkov<T> make_markov(const Chains<T>& chains, const Array<T>& matrices, const Array<T>& offsets,
                         const Array<std::uint32_t>& threshold, const Array<std::int32_t>& alias) {
    const std::int64_t d = chains.dim(), states = matrices.ndim() == 3 ? matrices.shape(0) : 0;
    require(states >= 1 && states <= 4096 && matrices.size() == states * d * d &&
                offsets.size() == states * d && threshold.size() == states * states &&
                alias.size() == states * states,
            "sgd_markov_lsa: parameters must have shapes (S, dim, dim), (S, dim), (S, S), (S, S) "
            "with S at most 4096");
    require(chains.num_auxiliary() == 1 && chains.holds_states(states),
            "sgd_markov_lsa: auxiliary must hold one state for each chain");
    const std::int32_t* const slots = alias.data();
    for (py::ssize_t k = 0; k < alias.size(); ++k)
        require(slots[k] >= 0 && slots[k] < states, "sgd_markov_lsa: alias must hold states");
    return {matrices.data(), offsets.data(), threshold.data(), slots, states};
}

template <class T>
SgdCustom<T> make_custom(const Chains<T>&, const std::uintptr_t& gradient,
                         const std::uintptr_t& data, const std::int64_t& num_normals,
                         const std::int64_t& num_uniforms) {
    require(gradient != 0 && num_normals >= 0 && num_uniforms >= 0,
            "sgd_custom: a gradient and counts that are not negative are needed");
    return {reinterpret_cast<SgdGradient<T>>(gradient), reinterpret_cast<const void*>(data),
            num_normals, num_uniforms};
}

template <class T>
void register_classes(py::module_& module, const char* chains_name, const char* rules_name) {
    py::class_<Chains<T>>(module, chains_name)
        .def(py::init<Array<T>, Array<double>, Array<std::uint8_t>, Array<std::int64_t>, Array<T>,
                      Array<T>>(),
             py::arg("theta").noconvert(), py::arg("sums").noconvert(),
             py::arg("flags").noconvert(), py::arg("diverged_at").noconvert(),
             py::arg("step_sizes").noconvert(), py::arg("auxiliary").noconvert());
    py::class_<Rules<T>>(module, rules_name)
        .def(py::init<double, double, int, py::object, py::object, py::object, double, int, double,
                      double, Array<std::int64_t>, Array<double>, std::int64_t>(),
             py::arg("clip_norm"), py::arg("weight_decay"), py::arg("projection"), py::arg("low"),
             py::arg("high"), py::arg("center"), py::arg("radius"), py::arg("schedule"),
             py::arg("exponent"), py::arg("offset"), py::arg("boundaries"), py::arg("factors"),
             py::arg("origin"));
}

template <class T>
void define_rows(py::module_& module, const char* name,
                 SgdKernel<T, SgdRows> SgdKernels<T>::* kernel) {
    define(module, name, kernel, make_rows<T>, "features", "targets", "batch_size", "sampling",
           "l2", "shape");
}

template <class T>
void define_streaming(py::module_& module, const char* name,
                      SgdKernel<T, SgdStreaming> SgdKernels<T>::* kernel) {
    define(module, name, kernel, make_streaming<T>, "theta_true", "factor", "noise_scale", "l2",
           "rho");
}

template <class T>
void register_kernels(py::module_& module) {
    using K = SgdKernels<T>;
    define(module, "sgd_quadratic", &K::quadratic, make_quadratic<T>, "curvature", "minimizer",
           "noise_scale", "noise");
    define(module, "sgd_quadratic_full", &K::quadratic_full, make_quadratic_full<T>, "matrix",
           "minimizer", "noise_factor", "noise");
    define(module, "sgd_cosine", &K::cosine, make_cosine<T>, "phase", "noise_scale", "noise");
    define_rows(module, "sgd_least_squares", &K::least_squares);
    define_rows(module, "sgd_logistic", &K::logistic);
    define_rows(module, "sgd_huber", &K::huber);
    define_rows(module, "sgd_squared_hinge", &K::squared_hinge);
    define_rows(module, "sgd_softplus_hinge", &K::softplus_hinge);
    define_rows(module, "sgd_poisson", &K::poisson);
    define_streaming(module, "sgd_streaming_least_squares", &K::streaming_least_squares);
    define_streaming(module, "sgd_streaming_logistic", &K::streaming_logistic);
    define(module, "sgd_markov_lsa", &K::markov_lsa, make_markov<T>, "matrices", "offsets",
           "threshold", "alias");
    define(module, "sgd_custom", &K::custom, make_custom<T>, "gradient", "data", "num_normals",
           "num_uniforms");
}

}  // namespace

void register_sgd(py::module_& module) {
    py::class_<Statistics>(module, "SgdStatistics")
        .def(py::init<std::int64_t, Array<double>, Array<double>, std::int64_t, py::object,
                      py::object, py::object, py::object, py::object, py::object>(),
             py::arg("count"), py::arg("weights").noconvert(), py::arg("shift").noconvert(),
             py::arg("stride"), py::arg("path"), py::arg("squares"), py::arg("products"),
             py::arg("second"), py::arg("plug_hessian"), py::arg("plug_outer"));
    register_classes<float>(module, "SgdChainsFloat32", "SgdRulesFloat32");
    register_classes<double>(module, "SgdChainsFloat64", "SgdRulesFloat64");
    register_kernels<float>(module);
    register_kernels<double>(module);
}

}  // namespace hl
