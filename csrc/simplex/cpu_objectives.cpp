// Objectives whose value and gradient come from one pass over a few coefficients.
#include "step_polynomial.hpp"
#include "tile.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class V>
void evaluate_polynomial(const void* parameters, const Place<V>& place, const V* x, V* gradient,
                         V* value) {
    const auto& p = *static_cast<const SimplexPolynomial<RealOf<V>>*>(parameters);
    *value = polynomial<V>(p, place.chains.dim, x, gradient, place.scratch);
}

// x^T Q x + c . x = sum_s x_s ((Q x)_s + c_s), gradient 2 Q x + c.
template <class V>
void evaluate_quadratic(const void* parameters, const Place<V>& place, const V* x, V* gradient,
                        V* value) {
    const auto& p = *static_cast<const SimplexQuadratic<RealOf<V>>*>(parameters);
    const std::int64_t d = place.chains.dim;
    V sum{};
    for (std::int64_t s = 0; s < d; ++s) {
        const V half = inner_product<V>(d, p.matrix + s * d, x);
        sum += x[s] * (half + p.linear[s]);
        gradient[s] = (half + half) + p.linear[s];
    }
    *value = sum;
}

// A gradient that the caller has computed; its value is not known.
template <class V>
void evaluate_given(const void* parameters, const Place<V>& place, const V*, V* gradient,
                    V* value) {
    const auto& p = *static_cast<const SimplexGiven<RealOf<V>>*>(parameters);
    const std::int64_t d = place.chains.dim;
    for (int lane = 0; lane < LaneTraits<V>::lanes; ++lane) {
        const std::int64_t chain = place.first_chain + (lane < place.live ? lane : 0);
        for (std::int64_t s = 0; s < d; ++s)
            gradient[s][lane] = p.gradient[chain * d + s];
    }
    *value = V{};
}

// One call for each chain, on a copy of its weights.
template <class V>
void evaluate_custom(const void* parameters, const Place<V>& place, const V* x, V* gradient,
                     V* value) {
    using T = RealOf<V>;
    const auto& p = *static_cast<const SimplexCustom<T>*>(parameters);
    const std::int64_t d = place.chains.dim;
    T* const point = reinterpret_cast<T*>(place.scratch);
    T* const slope = point + d;
    for (int lane = 0; lane < LaneTraits<V>::lanes; ++lane) {
        if (lane >= place.live) {
            (*value)[lane] = (*value)[0];
            for (std::int64_t s = 0; s < d; ++s)
                gradient[s][lane] = gradient[s][0];
            continue;
        }
        for (std::int64_t s = 0; s < d; ++s)
            point[s] = x[s][lane];
        (*value)[lane] = p.function(point, p.data, slope);
        for (std::int64_t s = 0; s < d; ++s)
            gradient[s][lane] = slope[s];
    }
}

template <class V>
HL_INLINE Status run_polynomial(const SimplexChains<RealOf<V>>& chains,
                                const SimplexPolynomial<RealOf<V>>& p) {
    const std::int64_t memory = polynomial_memory(p, chains.dim);
    const std::int64_t cost = 4 * p.num_coefficients + 3 * memory;
    return simplex_run(chains, {evaluate_polynomial<V>, &p, memory, cost, "simplex_polynomial", 0});
}

template <class V>
HL_INLINE Status run_quadratic(const SimplexChains<RealOf<V>>& chains,
                               const SimplexQuadratic<RealOf<V>>& p) {
    return simplex_run(
        chains, {evaluate_quadratic<V>, &p, 0, chains.dim * chains.dim, "simplex_quadratic", 0});
}

template <class V>
HL_INLINE Status run_given(const SimplexChains<RealOf<V>>& chains,
                           const SimplexGiven<RealOf<V>>& p) {
    return simplex_run(chains, {evaluate_given<V>, &p, 0, chains.dim, "simplex_given", 0});
}

template <class V>
HL_INLINE Status run_custom(const SimplexChains<RealOf<V>>& chains,
                            const SimplexCustom<RealOf<V>>& p) {
    const std::int64_t packs = 2 * chains.dim / LaneTraits<V>::lanes + 1;
    return simplex_run(
        chains, {evaluate_custom<V>, &p, packs, 100 * chains.dim + 1000, "simplex_custom", 0});
}

}  // namespace

Status simplex_polynomial(const SimplexChains<float>& c, const SimplexPolynomial<float>& p) {
    return run_polynomial<f32v>(c, p);
}
Status simplex_polynomial(const SimplexChains<double>& c, const SimplexPolynomial<double>& p) {
    return run_polynomial<f64v>(c, p);
}
Status simplex_quadratic(const SimplexChains<float>& c, const SimplexQuadratic<float>& p) {
    return run_quadratic<f32v>(c, p);
}
Status simplex_quadratic(const SimplexChains<double>& c, const SimplexQuadratic<double>& p) {
    return run_quadratic<f64v>(c, p);
}
Status simplex_given(const SimplexChains<float>& c, const SimplexGiven<float>& p) {
    return run_given<f32v>(c, p);
}
Status simplex_given(const SimplexChains<double>& c, const SimplexGiven<double>& p) {
    return run_given<f64v>(c, p);
}
Status simplex_custom(const SimplexChains<float>& c, const SimplexCustom<float>& p) {
    return run_custom<f32v>(c, p);
}
Status simplex_custom(const SimplexChains<double>& c, const SimplexCustom<double>& p) {
    return run_custom<f64v>(c, p);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
