// CUDA drivers of the objectives that a thread evaluates by itself: polynomials, quadratic programs
// and gradients that the caller has computed; and the projection of rows.
#include "cuda_chain.cuh"
#include "step_polynomial.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class T>
struct PolynomialEvaluation {
    SimplexPolynomial<T> p;
    Strided<T> memory;
    std::int64_t dim, epoch;

    HL_MEMBER PolynomialEvaluation(const SimplexPolynomial<T>& problem, const Spot<T>& spot)
        : p(problem), memory(spot.reals), dim(spot.chains.dim), epoch(0) {}

    HL_DEVICE_MEMBER void operator()(Strided<T> x, std::int64_t, Strided<T> gradient, T& value) {
        value = polynomial<T>(p, dim, x, gradient, memory);
    }
};

template <class T>
struct QuadraticEvaluation {
    SimplexQuadratic<T> p;
    std::int64_t dim, epoch;

    HL_MEMBER QuadraticEvaluation(const SimplexQuadratic<T>& problem, const Spot<T>& spot)
        : p(problem), dim(spot.chains.dim), epoch(0) {}

    HL_DEVICE_MEMBER void operator()(Strided<T> x, std::int64_t, Strided<T> gradient, T& value) {
        T sum = T(0);
        for (std::int64_t s = 0; s < dim; ++s) {
            const T half = inner_product<T>(dim, p.matrix + s * dim, x);
            sum += x[s] * (half + p.linear[s]);
            gradient[s] = (half + half) + p.linear[s];
        }
        value = sum;
    }
};

template <class T>
struct GivenEvaluation {
    const T* given;
    std::int64_t dim, epoch;

    HL_MEMBER GivenEvaluation(const SimplexGiven<T>& problem, const Spot<T>& spot)
        : given(problem.gradient + spot.chain * spot.chains.dim), dim(spot.chains.dim), epoch(0) {}

    HL_DEVICE_MEMBER void operator()(Strided<T>, std::int64_t, Strided<T> gradient, T& value) {
        for (std::int64_t s = 0; s < dim; ++s)
            gradient[s] = given[s];
        value = T(0);
    }
};

template <class T>
struct PolynomialProblem : SimplexPolynomial<T> {
    using Evaluation = PolynomialEvaluation<T>;
};
template <class T>
struct QuadraticProblem : SimplexQuadratic<T> {
    using Evaluation = QuadraticEvaluation<T>;
};
template <class T>
struct GivenProblem : SimplexGiven<T> {
    using Evaluation = GivenEvaluation<T>;
};

template <class T>
constexpr Layout<T> one_thread{0, 0, 1, 0};

template <class T>
Layout<T> polynomial_layout(const SimplexChains<T>& chains, const SimplexPolynomial<T>& p) {
    return {0, polynomial_memory(p, chains.dim), 1, 0};
}

template <class T>
std::int64_t polynomial_workspace(const SimplexChains<T>& chains, const SimplexPolynomial<T>& p) {
    return polynomial_layout(chains, p).workspace(chains);
}
template <class T>
std::int64_t quadratic_workspace(const SimplexChains<T>& chains, const SimplexQuadratic<T>&) {
    return one_thread<T>.workspace(chains);
}
template <class T>
std::int64_t given_workspace(const SimplexChains<T>& chains, const SimplexGiven<T>&) {
    return one_thread<T>.workspace(chains);
}

template <class T>
Status run_polynomial(const SimplexChains<T>& chains, const SimplexPolynomial<T>& p,
                      const CudaCall& call, std::int64_t* steps_done) {
    const Layout<T> layout = polynomial_layout(chains, p);
    const double cost = 8.0 * static_cast<double>(p.num_coefficients + layout.own_reals);
    return launch_chains("simplex_polynomial", chains, PolynomialProblem<T>{p}, layout, cost, call,
                         steps_done);
}

template <class T>
Status run_quadratic(const SimplexChains<T>& chains, const SimplexQuadratic<T>& p,
                     const CudaCall& call, std::int64_t* steps_done) {
    const double d = static_cast<double>(chains.dim);
    return launch_chains("simplex_quadratic", chains, QuadraticProblem<T>{p}, one_thread<T>,
                         4.0 * d * d, call, steps_done);
}

template <class T>
Status run_given(const SimplexChains<T>& chains, const SimplexGiven<T>& p, const CudaCall& call,
                 std::int64_t* steps_done) {
    return launch_chains("simplex_given", chains, GivenProblem<T>{p}, one_thread<T>, 0.0, call,
                         steps_done);
}

template <class T>
__global__ void project_rows(T* x, std::int64_t rows, std::int64_t dim, T* memory,
                             std::int64_t threads) {
    const Strided<T> v{memory + grid_thread(), threads};
    for (std::int64_t row = grid_thread(); row < rows; row += grid_threads()) {
        for (std::int64_t s = 0; s < dim; ++s)
            v[s] = x[row * dim + s];
        project_onto_simplex<T>(dim, v);
        for (std::int64_t s = 0; s < dim; ++s)
            x[row * dim + s] = v[s];
    }
}

template <class T>
Status run_project(T* x, std::int64_t rows, std::int64_t dim, const CudaCall& call) {
    const std::int64_t room =
        call.workspace_bytes / (dim * static_cast<std::int64_t>(sizeof(T))) / simplex_block_threads;
    if (room == 0) return Status::internal("simplex_project");
    LaunchShape shape = shape_for(rows, simplex_block_threads);
    shape.blocks = shape.blocks < room ? shape.blocks : room;
    return launch("simplex_project", project_rows<T>, shape, call, x, rows, dim,
                  static_cast<T*>(call.workspace), shape.blocks * simplex_block_threads);
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

HL_SIMPLEX_CUDA_DEFINE(polynomial, SimplexPolynomial, hl::run_polynomial, hl::polynomial_workspace)
HL_SIMPLEX_CUDA_DEFINE(quadratic, SimplexQuadratic, hl::run_quadratic, hl::quadratic_workspace)
HL_SIMPLEX_CUDA_DEFINE(given, SimplexGiven, hl::run_given, hl::given_workspace)

extern "C" hl::Status hl_cuda_simplex_project_f32(float* x, std::int64_t rows, std::int64_t dim,
                                                  const hl::CudaCall* call) {
    return hl::run_project(x, rows, dim, *call);
}
extern "C" hl::Status hl_cuda_simplex_project_f64(double* x, std::int64_t rows, std::int64_t dim,
                                                  const hl::CudaCall* call) {
    return hl::run_project(x, rows, dim, *call);
}
