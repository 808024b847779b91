#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "../core/bind_status.hpp"
#include "../core/dispatch.hpp"
#include "kernels.hpp"

namespace py = pybind11;

HL_DECLARE_TABLES(SgdTable, sgd_table)

namespace hl {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

void require(bool condition, const char* message) {
    if (!condition) throw py::value_error(message);
}

template <class T>
const SgdKernels<T>& kernels() {
    if constexpr (sizeof(T) == 4) {
        return HL_ACTIVE_TABLE(sgd_table).f32;
    } else {
        return HL_ACTIVE_TABLE(sgd_table).f64;
    }
}

// The arrays of a run, bound once; each call advances them by some steps.
template <class T>
class Chains {
  public:
    Chains(Array<T> theta, Array<double> sums, Array<std::uint8_t> flags,
           Array<std::int64_t> diverged_at, Array<T> step_sizes)
        : theta_(theta),
          sums_(sums),
          flags_(flags),
          diverged_at_(diverged_at),
          step_sizes_(step_sizes) {
        require(theta.ndim() == 3 && step_sizes.size() == theta.shape(1),
                "sgd: theta must have shape (chains, step sizes, dim)");
        require(sums.size() == theta.size(), "sgd: sums must have the shape of theta");
        const py::ssize_t cells = theta.shape(0) * theta.shape(1);
        require(flags.size() == cells && diverged_at.size() == cells,
                "sgd: flags and diverged_at must have shape (chains, step sizes)");
    }

    SgdChains<T> view(std::uint64_t seed, std::int64_t chain_offset, std::int64_t first_step,
                      std::int64_t num_steps, bool accumulate, T divergence_limit,
                      int num_threads) {
        return {theta_.mutable_data(),
                sums_.mutable_data(),
                flags_.mutable_data(),
                diverged_at_.mutable_data(),
                step_sizes_.data(),
                theta_.shape(0),
                theta_.shape(1),
                theta_.shape(2),
                seed,
                chain_offset,
                first_step,
                num_steps,
                accumulate,
                divergence_limit,
                num_threads};
    }

    py::ssize_t dim() const { return theta_.shape(2); }

  private:
    Array<T> theta_;
    Array<double> sums_;
    Array<std::uint8_t> flags_;
    Array<std::int64_t> diverged_at_;
    Array<T> step_sizes_;
};

// module.name(chains, seed, ..., num_threads, *parameters): `make` turns the parameters of the
// problem into what the kernel takes, and checks that no pointer can be read beyond its end.
template <class T, template <class> class Problem, class... Parameters, class Make>
void define(py::module_& module, const char* name, SgdKernel<T, Problem> SgdKernels<T>::* kernel,
            Make make) {
    module.def(
        name, [kernel, make](Chains<T>& chains, std::uint64_t seed, std::int64_t chain_offset,
                             std::int64_t first_step, std::int64_t num_steps, bool accumulate,
                             T divergence_limit, int num_threads, const Parameters&... parameters) {
            const Problem<T> problem = make(chains, parameters...);
            const SgdChains<T> view = chains.view(seed, chain_offset, first_step, num_steps,
                                                  accumulate, divergence_limit, num_threads);
            Status status = Status::success();
            {
                py::gil_scoped_release release;
                status = (kernels<T>().*kernel)(view, problem);
            }
            throw_status(status);
        });
}

template <class T>
SgdQuadratic<T> make_quadratic(const Chains<T>& chains, const Array<T>& curvature,
                               const Array<T>& minimizer, const Array<T>& noise_scale) {
    require(curvature.size() == chains.dim() && minimizer.size() == chains.dim() &&
                noise_scale.size() == chains.dim(),
            "sgd_quadratic: parameters must have shape (dim,)");
    return {curvature.data(), minimizer.data(), noise_scale.data()};
}

template <class T>
SgdQuadraticFull<T> make_quadratic_full(const Chains<T>& chains, const Array<T>& matrix,
                                        const Array<T>& minimizer, const Array<T>& noise_factor) {
    const py::ssize_t d = chains.dim();
    require(matrix.size() == d * d && minimizer.size() == d && noise_factor.size() == d * d,
            "sgd_quadratic_full: parameters must have shapes (dim, dim), (dim,), (dim, dim)");
    return {matrix.data(), minimizer.data(), noise_factor.data()};
}

template <class T>
SgdCosine<T> make_cosine(const Chains<T>&, T phase, T noise_scale) {
    return {phase, noise_scale};
}

template <class T>
SgdRows<T> make_rows(const Chains<T>& chains, const Array<T>& features, const Array<T>& targets,
                     std::int64_t batch_size, int sampling, T l2) {
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
            l2};
}

template <class T>
SgdCustom<T> make_custom(const Chains<T>&, std::uintptr_t gradient, std::uintptr_t data,
                         std::int64_t num_normals, std::int64_t num_uniforms) {
    require(gradient != 0 && num_normals >= 0 && num_uniforms >= 0,
            "sgd_custom: a gradient and counts that are not negative are needed");
    return {reinterpret_cast<SgdGradient<T>>(gradient), reinterpret_cast<const void*>(data),
            num_normals, num_uniforms};
}

template <class T>
void register_kernels(py::module_& module, const char* chains_name) {
    py::class_<Chains<T>>(module, chains_name)
        .def(
            py::init<Array<T>, Array<double>, Array<std::uint8_t>, Array<std::int64_t>, Array<T>>(),
            py::arg("theta").noconvert(), py::arg("sums").noconvert(), py::arg("flags").noconvert(),
            py::arg("diverged_at").noconvert(), py::arg("step_sizes").noconvert());
    using A = Array<T>;
    define<T, SgdQuadratic, A, A, A>(module, "sgd_quadratic", &SgdKernels<T>::quadratic,
                                     make_quadratic<T>);
    define<T, SgdQuadraticFull, A, A, A>(module, "sgd_quadratic_full",
                                         &SgdKernels<T>::quadratic_full, make_quadratic_full<T>);
    define<T, SgdCosine, T, T>(module, "sgd_cosine", &SgdKernels<T>::cosine, make_cosine<T>);
    define<T, SgdRows, A, A, std::int64_t, int, T>(module, "sgd_least_squares",
                                                   &SgdKernels<T>::least_squares, make_rows<T>);
    define<T, SgdRows, A, A, std::int64_t, int, T>(module, "sgd_logistic", &SgdKernels<T>::logistic,
                                                   make_rows<T>);
    define<T, SgdCustom, std::uintptr_t, std::uintptr_t, std::int64_t, std::int64_t>(
        module, "sgd_custom", &SgdKernels<T>::custom, make_custom<T>);
}

}  // namespace

void register_sgd(py::module_& module) {
    register_kernels<float>(module, "SgdChainsFloat32");
    register_kernels<double>(module, "SgdChainsFloat64");
}

}  // namespace hl
