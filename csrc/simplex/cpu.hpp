// The CPU drivers of one instruction-set level, by objective and precision.
#pragma once

#include "../core/config.hpp"
#include "../core/pack.hpp"
#include "kernels.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

template <class V>
struct Objective;

Status simplex_run(const SimplexChains<float>&, const Objective<f32v>&);
Status simplex_run(const SimplexChains<double>&, const Objective<f64v>&);

Status simplex_polynomial(const SimplexChains<float>&, const SimplexPolynomial<float>&);
Status simplex_polynomial(const SimplexChains<double>&, const SimplexPolynomial<double>&);
Status simplex_quadratic(const SimplexChains<float>&, const SimplexQuadratic<float>&);
Status simplex_quadratic(const SimplexChains<double>&, const SimplexQuadratic<double>&);
Status simplex_ridge_sum(const SimplexChains<float>&, const SimplexRidgeSum<float>&);
Status simplex_ridge_sum(const SimplexChains<double>&, const SimplexRidgeSum<double>&);
Status simplex_given(const SimplexChains<float>&, const SimplexGiven<float>&);
Status simplex_given(const SimplexChains<double>&, const SimplexGiven<double>&);
Status simplex_custom(const SimplexChains<float>&, const SimplexCustom<float>&);
Status simplex_custom(const SimplexChains<double>&, const SimplexCustom<double>&);
Status simplex_project(float* x, std::int64_t rows, std::int64_t dim, int num_threads);
Status simplex_project(double* x, std::int64_t rows, std::int64_t dim, int num_threads);

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
