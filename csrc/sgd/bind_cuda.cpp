#include <string>

#include "bind_cuda_chains.hpp"

namespace hl {
namespace {

using Size = std::int64_t;

template <class T>
bool is_gaussian(const SgdRows<T>&) {
    return true;
}
template <class Problem>
bool is_gaussian(const Problem& problem) {
    return problem.noise.law == NoiseLaw::gaussian;
}

// What the kernels take beside chains and problem. One that is asked for more would do the wrong
// thing in silence.
enum class Takes { nothing, running_sums, everything };

template <Takes takes, class T, class Problem>
void check_asked(const SgdChains<T>& chains, const Problem& problem) {
    if constexpr (takes != Takes::everything) {
        const SgdStatistics& asked = chains.statistics;
        const bool more = asked.second != nullptr || asked.plug_hessian != nullptr ||
                          (takes == Takes::nothing && asked.any());
        require(chains.rules.trivial() && !more && is_gaussian(problem),
                "sgd: this kernel takes no rules, other laws of noise, or such statistics");
    }
}

// The name of a parameter.
template <class>
using Name = const char*;

// module.name(chains, seed, ..., divergence_limit, *parameters) queues one launch and returns the
// number of steps it makes; module.name_workspace(chains) tells the bytes it can use.
template <Takes takes, class T, template <class> class Problem, class... Parameters>
void define(py::module_& module, const std::string& name, const SgdCudaEntry<T, Problem>& entry,
            Problem<T> (*make)(const CudaChains<T>&, Parameters...), Name<Parameters>... names) {
    const auto call = [entry, make](const CudaChains<T>& bound, std::uint64_t seed,
                                    Size chain_offset, Size first_step, Size num_steps,
                                    bool accumulate, T divergence_limit, Parameters... parameters) {
        const Problem<T> problem = make(bound, parameters...);
        const SgdChains<T> chains =
            bound.at(seed, chain_offset, first_step, num_steps, accumulate, divergence_limit);
        check_asked<takes>(chains, problem);
        make_current(bound.device());
        Size done = 0;
        Status status = Status::success();
        {
            py::gil_scoped_release release;
            status = entry.run(&chains, &problem, &bound.call(), &done);
        }
        throw_status(status);
        return done;
    };
    module.def(name.c_str(), call, py::arg("chains"), py::arg("seed"), py::arg("chain_offset"),
               py::arg("first_step"), py::arg("num_steps"), py::arg("accumulate"),
               py::arg("divergence_limit"), py::arg(names)...);
    module.def((name + "_workspace").c_str(),
               [entry](const CudaChains<T>& bound) { return entry.workspace(&bound.view()); },
               py::arg("chains"));
}

template <class T>
SgdNoise<T> make_noise(int law, double df, Address table, Size table_size) {
    require(law >= 0 && law <= 6, "sgd: the law of the noise must be 0 to 6");
    SgdNoise<T> noise;
    noise.law = static_cast<NoiseLaw>(law);
    noise.df = df;
    noise.table = pointer<const T>(table);
    noise.table_size = table_size;
    require(noise.law != NoiseLaw::student_t || df > 2, "sgd: df must be above 2");
    require(noise.law != NoiseLaw::table || (table_size >= 1 && table_size <= 1 << 20),
            "sgd: the table of the noise must have 1 to 2**20 values");
    return noise;
}

template <class T>
SgdQuadratic<T> make_quadratic(const CudaChains<T>&, Address curvature, Address minimizer,
                               Address noise_scale, int law, double df, Address table,
                               Size table_size) {
    return {pointer<const T>(curvature), pointer<const T>(minimizer), pointer<const T>(noise_scale),
            make_noise<T>(law, df, table, table_size)};
}

template <class T>
SgdQuadraticFull<T> make_quadratic_full(const CudaChains<T>&, Address matrix, Address minimizer,
                                        Address noise_factor, int law, double df, Address table,
                                        Size table_size) {
    return {pointer<const T>(matrix), pointer<const T>(minimizer), pointer<const T>(noise_factor),
            make_noise<T>(law, df, table, table_size)};
}

template <class T>
SgdCosine<T> make_cosine(const CudaChains<T>&, T phase, T noise_scale, int law, double df,
                         Address table, Size table_size) {
    return {phase, noise_scale, make_noise<T>(law, df, table, table_size)};
}

template <class T>
SgdRows<T> make_rows(const CudaChains<T>&, Address features, Address targets, Size num_rows,
                     Size batch_size, int sampling, T l2, T shape) {
    require(num_rows >= 1 && num_rows <= 0xffffffffLL && batch_size >= 1 && sampling >= 0 &&
                sampling <= 2,
            "sgd_rows: features must have shape (rows, dim), targets (rows,)");
    return {pointer<const T>(features),
            pointer<const T>(targets),
            num_rows,
            batch_size,
            static_cast<Sampling>(sampling),
            l2,
            shape};
}

template <class T>
SgdStreaming<T> make_streaming(const CudaChains<T>& chains, Address theta_true, Address factor,
                               bool full, T noise_scale, T l2, double rho) {
    require(rho > -1 && rho < 1, "sgd_streaming: rho must lie between -1 and 1");
    require(rho == 0 || chains.view().num_auxiliary == chains.view().dim,
            "sgd_streaming: auxiliary must have shape (chains, dim)");
    return {pointer<const T>(theta_true),
            pointer<const T>(factor),
            full,
            noise_scale,
            l2,
            rho != 0,
            static_cast<T>(rho),
            static_cast<T>(std::sqrt(1 - rho * rho))};
}

template <class T>
SgdMarkov<T> make_markov(const CudaChains<T>& chains, Address matrices, Address offsets,
                         Address threshold, Address alias, Size num_states) {
    require(num_states >= 1 && num_states <= 4096, "sgd_markov_lsa: S must be at most 4096");
    require(chains.view().num_auxiliary == 1,
            "sgd_markov_lsa: auxiliary must hold one state for each chain");
    return {pointer<const T>(matrices), pointer<const T>(offsets),
            pointer<const std::uint32_t>(threshold), pointer<const std::int32_t>(alias),
            num_states};
}

// `entry` of the precision T.
#define HL_ENTRY(name)                                                    \
    pick<T>(hl_cuda_sgd_##name##_f32, hl_cuda_sgd_##name##_workspace_f32, \
            hl_cuda_sgd_##name##_f64, hl_cuda_sgd_##name##_workspace_f64)

template <class T, template <class> class Problem>
SgdCudaEntry<T, Problem> pick(SgdCudaKernel<float, Problem> run_f32,
                              SgdCudaWorkspace<float> workspace_f32,
                              SgdCudaKernel<double, Problem> run_f64,
                              SgdCudaWorkspace<double> workspace_f64) {
    if constexpr (sizeof(T) == 4) {
        return {run_f32, workspace_f32};
    } else {
        return {run_f64, workspace_f64};
    }
}

template <Takes takes, class T>
void define_quadratic(py::module_& module, const char* name,
                      const SgdCudaEntry<T, SgdQuadratic>& entry) {
    define<takes>(module, name, entry, make_quadratic<T>, "curvature", "minimizer", "noise_scale",
                  "law", "df", "table", "table_size");
}

template <Takes takes, class T>
void define_quadratic_full(py::module_& module, const char* name,
                           const SgdCudaEntry<T, SgdQuadraticFull>& entry) {
    define<takes>(module, name, entry, make_quadratic_full<T>, "matrix", "minimizer",
                  "noise_factor", "law", "df", "table", "table_size");
}

template <Takes takes, class T>
void define_cosine(py::module_& module, const char* name, const SgdCudaEntry<T, SgdCosine>& entry) {
    define<takes>(module, name, entry, make_cosine<T>, "phase", "noise_scale", "law", "df", "table",
                  "table_size");
}

template <Takes takes, class T>
void define_rows(py::module_& module, const char* name, const SgdCudaEntry<T, SgdRows>& entry) {
    define<takes>(module, name, entry, make_rows<T>, "features", "targets", "num_rows",
                  "batch_size", "sampling", "l2", "shape");
}

template <Takes takes, class T>
void define_streaming(py::module_& module, const char* name,
                      const SgdCudaEntry<T, SgdStreaming>& entry) {
    define<takes>(module, name, entry, make_streaming<T>, "theta_true", "factor", "full",
                  "noise_scale", "l2", "rho");
}

template <Takes takes, class T>
void define_markov(py::module_& module, const char* name, const SgdCudaEntry<T, SgdMarkov>& entry) {
    define<takes>(module, name, entry, make_markov<T>, "matrices", "offsets", "threshold", "alias",
                  "num_states");
}

#define HL_DEFINE(name, problem) \
    define_##problem<Takes::nothing>(module, "sgd_" #name, HL_ENTRY(name))
#define HL_DEFINE_STATISTICS(name, problem)                                   \
    define_##problem<Takes::running_sums>(module, "sgd_" #name "_statistics", \
                                          HL_ENTRY(name##_statistics))
#define HL_DEFINE_GENERAL(name, problem) \
    define_##problem<Takes::everything>(module, "sgd_" #name "_general", HL_ENTRY(name##_general))

template <class T>
void register_kernels(py::module_& module) {
    HL_DEFINE(quadratic, quadratic);
    HL_DEFINE(quadratic_full, quadratic_full);
    HL_DEFINE(cosine, cosine);
    HL_DEFINE(least_squares, rows);
    HL_DEFINE(logistic, rows);
    HL_DEFINE(huber, rows);
    HL_DEFINE(squared_hinge, rows);
    HL_DEFINE(softplus_hinge, rows);
    HL_DEFINE(poisson, rows);

    HL_DEFINE_STATISTICS(quadratic, quadratic);
    HL_DEFINE_STATISTICS(cosine, cosine);
    HL_DEFINE_STATISTICS(least_squares, rows);
    HL_DEFINE_STATISTICS(logistic, rows);
    HL_DEFINE_STATISTICS(huber, rows);
    HL_DEFINE_STATISTICS(squared_hinge, rows);
    HL_DEFINE_STATISTICS(softplus_hinge, rows);
    HL_DEFINE_STATISTICS(poisson, rows);

    HL_DEFINE_GENERAL(quadratic, quadratic);
    HL_DEFINE_GENERAL(quadratic_full, quadratic_full);
    HL_DEFINE_GENERAL(cosine, cosine);
    HL_DEFINE_GENERAL(least_squares, rows);
    HL_DEFINE_GENERAL(logistic, rows);
    HL_DEFINE_GENERAL(huber, rows);
    HL_DEFINE_GENERAL(squared_hinge, rows);
    HL_DEFINE_GENERAL(softplus_hinge, rows);
    HL_DEFINE_GENERAL(poisson, rows);
    HL_DEFINE_GENERAL(streaming_least_squares, streaming);
    HL_DEFINE_GENERAL(streaming_logistic, streaming);
    HL_DEFINE_GENERAL(markov_lsa, markov);
}

#undef HL_DEFINE
#undef HL_DEFINE_STATISTICS
#undef HL_DEFINE_GENERAL
#undef HL_ENTRY

// What _cuda_custom.py lays out the kernel around a user's gradient by.
template <class T>
void define_custom(py::module_& module, SgdCudaWorkspace<T> thread_bytes) {
    module.def(
        "sgd_custom_thread_bytes",
        [thread_bytes](const CudaChains<T>& chains) { return thread_bytes(&chains.view()); },
        py::arg("chains"));
    module.def(
        "sgd_statistics_cost",
        [](const CudaChains<T>& chains) { return sgd_statistics_cost(chains.view()); },
        py::arg("chains"));
}

}  // namespace

void register_sgd_cuda(py::module_& module) {
    CudaChains<float>::register_class(module, "SgdChainsFloat32");
    CudaChains<double>::register_class(module, "SgdChainsFloat64");
    register_kernels<float>(module);
    register_kernels<double>(module);
    define_custom<float>(module, hl_cuda_sgd_custom_thread_bytes_f32);
    define_custom<double>(module, hl_cuda_sgd_custom_thread_bytes_f64);
    module.def("sgd_workspace", &sgd_workspace, py::arg("count"), py::arg("bytes"));
    module.def("sgd_launch_steps", &sgd_launch_steps, py::arg("first_step"), py::arg("num_steps"),
               py::arg("threads"), py::arg("cost"));
    module.attr("sgd_operation_cost_float32") = sgd_operation_cost<float>;
    module.attr("sgd_operation_cost_float64") = sgd_operation_cost<double>;
}

}  // namespace hl
