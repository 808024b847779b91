#include "../core/dispatch.hpp"
#include "bind_chains.hpp"

HL_DECLARE_TABLES(SimplexTable, simplex_table)

namespace hl {
namespace {

template <class T>
const SimplexKernels<T>& kernels() {
    if constexpr (sizeof(T) == 4) {
        return HL_ACTIVE_TABLE(simplex_table).f32;
    } else {
        return HL_ACTIVE_TABLE(simplex_table).f64;
    }
}

// module.name(chains, seed, ..., num_threads, *parameters).
template <class T, template <class> class Problem, class... Parameters, class Make>
void define(py::module_& module, const char* name,
            SimplexKernel<T, Problem> SimplexKernels<T>::* kernel, Make make) {
    module.def(
        name, [kernel, make](Chains<T>& chains, std::uint64_t seed, std::int64_t chain_offset,
                             std::int64_t first_step, std::int64_t num_steps, int form, bool noisy,
                             bool corrected, bool accumulate, T floor_scale, T floor_least, T clip,
                             int num_threads, const Parameters&... parameters) {
            const Problem<T> problem = make(chains, parameters...);
            const SimplexChains<T> view =
                chains.view(seed, chain_offset, first_step, num_steps, form, noisy, corrected,
                            accumulate, floor_scale, floor_least, clip, num_threads);
            Status status = Status::success();
            {
                py::gil_scoped_release release;
                status = (kernels<T>().*kernel)(view, problem);
            }
            throw_status(status);
        });
}

// Every product comes from places before its own; factors are weights.
bool is_list_of_products(const Array<std::int32_t>& parents, const Array<std::int32_t>& factors,
                         py::ssize_t dim) {
    if (parents.size() != factors.size()) return false;
    for (py::ssize_t k = 0; k < parents.size(); ++k) {
        const std::int32_t parent = parents.data()[k], factor = factors.data()[k];
        if (parent < 0 || parent > dim + k || factor < 1 || factor > dim) return false;
    }
    return true;
}

// Heights and widths that add up to the numbers of rows, columns and coefficients.
bool are_blocks(const Array<std::int32_t>& heights, const Array<std::int32_t>& widths,
                py::ssize_t rows, py::ssize_t columns, py::ssize_t coefficients) {
    if (heights.size() != widths.size()) return false;
    for (py::ssize_t b = 0; b < heights.size(); ++b) {
        const std::int32_t height = heights.data()[b], width = widths.data()[b];
        if ((height != 1 && height != 2 && height != 4) || width < 0) return false;
        rows -= height;
        columns -= width;
        coefficients -= static_cast<py::ssize_t>(height) * width;
    }
    return rows == 0 && columns == 0 && coefficients == 0;
}

template <class T>
SimplexPolynomial<T> make_polynomial(const Chains<T>& chains, const Array<std::int32_t>& parents,
                                     const Array<std::int32_t>& factors,
                                     const Array<std::int32_t>& heights,
                                     const Array<std::int32_t>& widths,
                                     const Array<std::int32_t>& rows,
                                     const Array<std::int32_t>& columns,
                                     const Array<T>& coefficients) {
    require(is_list_of_products(parents, factors, chains.dim()),
            "simplex_polynomial: products must have parents before them and factors up to dim");
    require(are_blocks(heights, widths, rows.size(), columns.size(), coefficients.size()),
            "simplex_polynomial: blocks must take up all rows, columns and coefficients");
    const py::ssize_t count = 1 + chains.dim() + parents.size();
    require(below(rows, count) && below(columns, count),
            "simplex_polynomial: blocks must lie in the list of products");
    return {parents.data(), factors.data(),     heights.data(),      widths.data(),
            rows.data(),    columns.data(),     coefficients.data(), parents.size(),
            heights.size(), coefficients.size()};
}

template <class T>
SimplexQuadratic<T> make_quadratic(const Chains<T>& chains, const Array<T>& matrix,
                                   const Array<T>& linear) {
    require(matrix.size() == chains.dim() * chains.dim() && linear.size() == chains.dim(),
            "simplex_quadratic: parameters must have shapes (dim, dim) and (dim,)");
    return {matrix.data(), linear.data()};
}

template <class T>
SimplexRidgeSum<T> make_ridge_sum(const Chains<T>& chains, const Array<T>& rows,
                                  const Array<T>& weights, const Array<T>& center,
                                  const Array<T>& linear, int profile, const Array<T>& coefficients,
                                  std::int64_t batch_size) {
    require(rows.ndim() == 2 && rows.shape(1) == chains.dim() && weights.size() == rows.shape(0) &&
                center.size() == chains.dim() && linear.size() == chains.dim(),
            "simplex_ridge_sum: parameters must have shapes (T, dim), (T,), (dim,) and (dim,)");
    require(profile >= 0 && profile <= 5, "simplex_ridge_sum: no such profile");
    const auto kind = static_cast<SimplexProfile>(profile);
    const bool own = kind == SimplexProfile::row_polynomials;
    require(own ? coefficients.ndim() == 2 && coefficients.shape(0) == rows.shape(0)
                : coefficients.ndim() == 1,
            "simplex_ridge_sum: coefficients must have shape (K,), or (T, K) for row polynomials");
    const py::ssize_t count = coefficients.shape(own ? 1 : 0);
    const bool enough = kind == SimplexProfile::standardised  ? count == 3
                        : kind == SimplexProfile::log_utility ? true
                                                              : count >= 1;
    require(enough && count <= max_profile_coefficients,
            "simplex_ridge_sum: the profile takes another number of coefficients");
    require(batch_size >= 0 && (batch_size == 0 || !(own || kind == SimplexProfile::standardised)),
            "simplex_ridge_sum: this profile has no minibatches");
    require(batch_size == 0 || (rows.shape(0) > 0 && rows.shape(0) <= (1 << 20)),
            "simplex_ridge_sum: minibatches are drawn from at most 2^20 rows");
    return {rows.data(), weights.data(),      center.data(), linear.data(),
            kind,        coefficients.data(), rows.shape(0), static_cast<std::int32_t>(count),
            batch_size};
}

template <class T>
SimplexGiven<T> make_given(const Chains<T>& chains, const Array<T>& gradient) {
    require(gradient.size() == chains.size(), "simplex_given: gradient must have the shape of x");
    return {gradient.data()};
}

template <class T>
SimplexCustom<T> make_custom(const Chains<T>&, std::uintptr_t function, std::uintptr_t data) {
    require(function != 0, "simplex_custom: a function is needed");
    return {reinterpret_cast<SimplexFunction<T>>(function), reinterpret_cast<const void*>(data)};
}

template <class T>
void project(Array<T> x, int num_threads) {
    require(x.ndim() == 2, "simplex_project: x must have shape (rows, dim)");
    T* const data = x.mutable_data();
    Status status = Status::success();
    {
        py::gil_scoped_release release;
        status = kernels<T>().project(data, x.shape(0), x.shape(1), num_threads);
    }
    throw_status(status);
}

template <class T>
void register_kernels(py::module_& module, const char* chains_name) {
    using A = Array<T>;
    using I = Array<std::int32_t>;
    using L = Array<std::int64_t>;
    using D = Array<double>;
    py::class_<Chains<T>>(module, chains_name)
        .def(py::init<A, A, A, A, A, D, D, L, L, L, Array<std::uint8_t>, L, A, A, A, I>(),
             py::arg("x").noconvert(), py::arg("value").noconvert(), py::arg("best_x").noconvert(),
             py::arg("best_value").noconvert(), py::arg("smallest").noconvert(),
             py::arg("sums").noconvert(), py::arg("squares").noconvert(),
             py::arg("floored").noconvert(), py::arg("clipped").noconvert(),
             py::arg("accepted").noconvert(), py::arg("flags").noconvert(),
             py::arg("failed_at").noconvert(), py::arg("step_sizes").noconvert(),
             py::arg("temperatures").noconvert(), py::arg("alpha").noconvert(),
             py::arg("offsets").noconvert())
        .def("set_terms", &Chains<T>::set_terms)
        .def("set_schedule", &Chains<T>::set_schedule)
        .def("set_acceleration", &Chains<T>::set_acceleration, py::arg("auxiliary").noconvert(),
             py::arg("accelerations").noconvert(), py::arg("convexity"))
        .def("set_products", &Chains<T>::set_products, py::arg("products").noconvert())
        .def("set_histogram", &Chains<T>::set_histogram, py::arg("histogram").noconvert())
        .def("set_noise", &Chains<T>::set_noise, py::arg("noise").noconvert())
        .def("set_gradient", &Chains<T>::set_gradient, py::arg("gradient").noconvert());
    define<T, SimplexPolynomial, I, I, I, I, I, I, A>(
        module, "simplex_polynomial", &SimplexKernels<T>::polynomial, make_polynomial<T>);
    define<T, SimplexQuadratic, A, A>(module, "simplex_quadratic", &SimplexKernels<T>::quadratic,
                                      make_quadratic<T>);
    define<T, SimplexRidgeSum, A, A, A, A, int, A, std::int64_t>(
        module, "simplex_ridge_sum", &SimplexKernels<T>::ridge_sum, make_ridge_sum<T>);
    define<T, SimplexGiven, A>(module, "simplex_given", &SimplexKernels<T>::given, make_given<T>);
    define<T, SimplexCustom, std::uintptr_t, std::uintptr_t>(
        module, "simplex_custom", &SimplexKernels<T>::custom, make_custom<T>);
    module.def("simplex_project", project<T>, py::arg("x").noconvert(), py::arg("num_threads"));
}

}  // namespace

void register_simplex(py::module_& module) {
    register_kernels<float>(module, "SimplexChainsFloat32");
    register_kernels<double>(module, "SimplexChainsFloat64");
}

}  // namespace hl
