// Objectives whose value and gradient come from one pass over a few coefficients.
#include "tile.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// Where a walk over the tree of a polynomial stands: at a node, with its sum and that of its parent
// in registers. The sum of a node is that of all monomials below it, divided by its product.
template <class V>
struct PolynomialWalk {
    const V* x;
    V* gradient;
    V product[max_polynomial_depth + 1];  // x[i_1] .. x[i_depth]
    V saved[max_polynomial_depth + 1];    // the sum of a node's parent, while the walk is below it
    std::int32_t index[max_polynomial_depth + 1];
    std::int32_t depth;
    V sum, above;

    // Goes on from here to a node at this depth, whose parent is on the way or here.
    HL_MEMBER void enter(std::int32_t own, std::int32_t s) {
        if (own > depth) {
            saved[depth] = above;
            above = sum;
        } else {
            leave();
            while (depth >= own) {
                rise();
                leave();
            }
        }
        depth = own;
        index[own] = s;
        product[own] = product[own - 1] * x[s];
    }

    // The sum of the node is done: its factor can be differentiated.
    HL_MEMBER void leave() {
        const std::int32_t s = index[depth];
        above += x[s] * sum;
        gradient[s] += product[depth - 1] * sum;
        --depth;
    }

    // To the node whose sum is `above`.
    HL_MEMBER void rise() {
        sum = above;
        above = saved[depth];
    }
};

// Horner's rule on a tree, and its derivative on the way: two products and two sums for each
// monomial. Nothing is divided, so zeros are no case of their own.
template <class V>
void evaluate_polynomial(const void* parameters, const Place<V>& place, const V* x, V* gradient,
                         V* value) {
    using T = RealOf<V>;
    const auto& p = *static_cast<const SimplexPolynomial<T>*>(parameters);
    for (std::int64_t s = 0; s < place.chains.dim; ++s)
        gradient[s] = V{};
    PolynomialWalk<V> walk;
    walk.x = x;
    walk.gradient = gradient;
    walk.depth = 0;
    walk.product[0] = broadcast<V>(T(1));
    walk.sum = walk.above = V{};
    for (std::int64_t node = 0; node < p.num_nodes; ++node) {
        if (node > 0) walk.enter(p.depths[node], p.indices[node]);
        const V product = walk.product[walk.depth];
        V sum = broadcast<V>(p.coefficients[node]);
        for (std::int32_t leaf = p.leaf_offsets[node]; leaf < p.leaf_offsets[node + 1]; ++leaf) {
            const std::int32_t s = p.leaf_indices[leaf];
            sum += p.leaf_coefficients[leaf] * x[s];
            gradient[s] += p.leaf_coefficients[leaf] * product;
        }
        walk.sum = sum;
    }
    while (walk.depth > 0) {
        walk.leave();
        walk.rise();
    }
    *value = walk.sum;
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
    const std::int64_t cost = 4 * (p.num_nodes + p.num_leaves);
    return simplex_run(chains, {evaluate_polynomial<V>, &p, 0, cost, "simplex_polynomial", 0});
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
