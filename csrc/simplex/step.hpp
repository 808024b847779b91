// The mathematics of one step of Langevin multiplicative weights on a product of simplices.
//
// Y. Feng, X. Wang, T. Xie, "Langevin Multiplicative Weights Update with Applications in Polynomial
// Portfolio Management", AAAI 2025 (arXiv 2502.19210). The metric is that of Shahshahani,
// <u, v>_x = sum u_s v_s / x_s; its Gaussian is sqrt(x_s) z_s - x_s sum_r sqrt(x_r) z_r. V is one
// row (float, double) or a pack of rows.
#pragma once

#include "../core/normal.hpp"
#include "kernels.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

template <class V>
using MaskOf = decltype(V{} <= V{});

// Arrays of the steps are anything with [] and +: pointers to packs here, Strided on a GPU.

// sum_{k < n} a[k] b[k] in four strands, k mod 4, added in pairs; a holds scalars or packs.
template <class V, class A, class B>
HL_INLINE V inner_product(std::int64_t n, A a, B b) {
    V strand[4] = {V{}, V{}, V{}, V{}};
    std::int64_t k = 0;
    for (; k + 4 <= n; k += 4) {
        strand[0] += a[k] * b[k];
        strand[1] += a[k + 1] * b[k + 1];
        strand[2] += a[k + 2] * b[k + 2];
        strand[3] += a[k + 3] * b[k + 3];
    }
    if (k < n) strand[0] += a[k] * b[k];
    if (k + 1 < n) strand[1] += a[k + 1] * b[k + 1];
    if (k + 2 < n) strand[2] += a[k + 2] * b[k + 2];
    return (strand[0] + strand[1]) + (strand[2] + strand[3]);
}

// No coordinate of the multiplicative forms falls below it.
template <class V>
constexpr RealOf<V> smallest_weight = is_single<V> ? RealOf<V>(1e-30) : RealOf<V>(1e-290);

// eps, 1 / beta, sqrt(2 eps / beta) and the floor of a step, lane by lane.
template <class V>
struct StepRates {
    V step, temperature, noise, floor;
};

template <class V>
HL_INLINE StepRates<V> step_rates(V step, V temperature, RealOf<V> floor_scale,
                                  RealOf<V> floor_least) {
    const V variance = (step + step) * temperature;
    V floor = floor_scale * variance;
    floor = floor < floor_least ? broadcast<V>(floor_least) : floor;
    return {step, temperature, square_root(variance), floor};
}

// The bin of x among equal parts of [0, 1].
template <class T>
HL_INLINE std::int64_t bin_of(T x, std::int64_t num_bins) {
    const std::int64_t bin = static_cast<std::int64_t>(x * static_cast<T>(num_bins));
    return bin < num_bins ? bin : num_bins - 1;
}

// What a step did to the chains of a pack.
template <class V>
struct StepReport {
    V floored;           // coordinates lifted to the floor
    V smallest;          // coordinate
    MaskOf<V> exceeded;  // an exponent was cut
    MaskOf<V> finite;
};

// The floor of a simplex of n entries is at most 1 / (4 n).
template <class V>
HL_INLINE V floor_of(const StepRates<V>& rates, std::int64_t n) {
    const RealOf<V> quarter = RealOf<V>(0.25);
    const RealOf<V> cap = quarter / static_cast<RealOf<V>>(n);
    return rates.floor > cap ? broadcast<V>(cap) : rates.floor;
}

// Divides by the sum, lifts small weights, and divides again in the lanes where that changed it.
template <class V, class X>
HL_INLINE void normalise(std::int64_t n, V total, V floor, X x, StepReport<V>& report) {
    const RealOf<V> zero = 0, one = 1;
    const RealOf<V> largest = is_single<V> ? RealOf<V>(3e38) : RealOf<V>(1e308);
    report.finite = report.finite & (total > zero) & (total <= largest);
    const V scale = one / total;
    V lifted{}, sum{};
    for (std::int64_t s = 0; s < n; ++s) {
        const V weight = x[s] * scale;
        const auto low = weight < floor;
        x[s] = low ? floor : weight;
        lifted += low ? broadcast<V>(one) : V{};
        sum += x[s];
    }
    const auto changed = lifted > zero;
    if (any_lane(changed)) {
        const V again = changed ? one / sum : broadcast<V>(one);
        for (std::int64_t s = 0; s < n; ++s)
            x[s] = x[s] * again;
        report.floored += lifted;
    }
    for (std::int64_t s = 0; s < n; ++s)
        report.smallest = x[s] < report.smallest ? x[s] : report.smallest;
}

// Form (E): log x' = log x - eps g + sqrt(2 eps / beta) z / sqrt(x) - eps (1 - alpha) / (beta x)
// - const: the multiplicative retraction of the Riemannian gradient step and its noise. The
// gradient is centred by x . g, which the constant would cancel, so that a shift of g is no reason
// to cut exponents.
template <class V, class X, class G, class Z, class Y>
HL_INLINE void entropic_step(std::int64_t n, const StepRates<V>& rates, X x, G g, Z z,
                             const RealOf<V>* alpha, bool noisy, bool corrected, RealOf<V> clip,
                             Y next, StepReport<V>& report) {
    const RealOf<V> one = 1;
    const V pull = inner_product<V>(n, g, x);
    const V top = broadcast<V>(clip);
    V total{};
    for (std::int64_t s = 0; s < n; ++s) {
        V exponent = rates.step * (pull - g[s]);
        if (noisy) {
            const V inverse_root = one / square_root(x[s]);
            exponent += rates.noise * (z[s] * inverse_root);
            if (corrected) {
                const V drift = (rates.step * rates.temperature) * (one - alpha[s]);
                exponent -= drift * (inverse_root * inverse_root);
            }
        }
        report.exceeded = report.exceeded | (magnitude(exponent) > top);
        exponent = exponent > top ? top : exponent;
        exponent = exponent < -top ? V(-top) : exponent;
        next[s] = x[s] * exp_bounded(exponent);
        total += next[s];
    }
    normalise(n, total, floor_of(rates, n), next, report);
}

// Form (S): u = sqrt(x) lies on the unit sphere, where the geodesic from u along V is
// cos|V| u + sin|V| V / |V|; V = (-eps grad + sqrt(2 eps / beta) noise) / 2. A reflection at the
// faces is an absolute value. `next` also holds V on the way.
template <class V, class X, class G, class Z, class Y>
HL_INLINE void sphere_step(std::int64_t n, const StepRates<V>& rates, X x, G g, Z z,
                           const RealOf<V>* alpha, bool noisy, bool corrected, RealOf<V> clip, Y u,
                           Y next, StepReport<V>& report) {
    const RealOf<V> one = 1, half = RealOf<V>(0.5), zero = 0;
    const V lowest = square_root(floor_of(rates, n));
    for (std::int64_t s = 0; s < n; ++s) {
        u[s] = square_root(x[s]);
        next[s] = u[s] * g[s];
        if (corrected) {
            const V above = u[s] < lowest ? lowest : u[s];
            next[s] += ((half - alpha[s]) * rates.temperature) / above;
        }
    }
    const V pull = inner_product<V>(n, u, next);
    const V along = noisy ? inner_product<V>(n, u, z) : V{};
    for (std::int64_t s = 0; s < n; ++s) {
        V move = rates.step * (u[s] * pull - next[s]);
        if (noisy) move += rates.noise * (z[s] - u[s] * along);
        next[s] = half * move;
    }
    const V length = square_root(inner_product<V>(n, next, next));
    const V top = broadcast<V>(clip);
    report.exceeded = report.exceeded | (length > top);
    const V angle = length > top ? top : length;
    const RealOf<V> quarter_turn = RealOf<V>(1.5707963267948966);
    const V forward = sine(V(angle + quarter_turn));
    const V sideways = sine(angle) / (length > zero ? length : broadcast<V>(one));
    V total{};
    for (std::int64_t s = 0; s < n; ++s) {
        const V moved = forward * u[s] + sideways * next[s];
        next[s] = moved * moved;
        total += next[s];
    }
    normalise(n, total, broadcast<V>(smallest_weight<V>), next, report);
}

// The linear variant of multiplicative weights: x (1 - eps g) / sum.
template <class V, class X, class G, class Y>
HL_INLINE void linear_step(std::int64_t n, const StepRates<V>& rates, X x, G g, Y next,
                           StepReport<V>& report) {
    const RealOf<V> one = 1, zero = 0;
    V total{};
    for (std::int64_t s = 0; s < n; ++s) {
        const V factor = one - rates.step * g[s];
        report.exceeded = report.exceeded | (factor <= zero);
        next[s] = x[s] * (factor > zero ? factor : V{});
        total += next[s];
    }
    normalise(n, total, floor_of(rates, n), next, report);
}

// The point of the simplex that is nearest to v, in place: max(v - tau, 0), where tau is the mean
// of the active coordinates' excess. Coordinates leave the active set until none has to (Michelot,
// "A finite algorithm for finding the projection of a point onto the canonical simplex of R^n",
// 1986); once a lane is done, further rounds give the same tau again. Returns the sum, which is 1
// up to rounding.
template <class V, class X>
HL_INLINE V project_onto_simplex(std::int64_t n, X v) {
    const RealOf<V> one = 1, zero = 0;
    V top = v[0];
    for (std::int64_t s = 1; s < n; ++s)
        top = v[s] > top ? v[s] : top;
    V total{};
    for (std::int64_t s = 0; s < n; ++s) {
        v[s] = v[s] - top;
        total += v[s];
    }
    V count = broadcast<V>(static_cast<RealOf<V>>(n));
    V tau = (total - one) / count;
    for (std::int64_t round = 0; round < n; ++round) {
        V active{}, sum{};
        for (std::int64_t s = 0; s < n; ++s) {
            const auto above = v[s] > tau;
            active += above ? broadcast<V>(one) : V{};
            sum += above ? v[s] : V{};
        }
        const bool shrinks = any_lane(active < count);
        count = active;
        tau = (sum - one) / count;
        if (!shrinks) break;
    }
    V left{};
    for (std::int64_t s = 0; s < n; ++s) {
        const V excess = v[s] - tau;
        v[s] = excess > zero ? excess : V{};
        left += v[s];
    }
    return left;
}

// Form (P): the nearest point to x - eps g + sqrt(2 eps / beta) z.
template <class V, class X, class G, class Z, class Y>
HL_INLINE void projected_step(std::int64_t n, const StepRates<V>& rates, X x, G g, Z z, bool noisy,
                              Y next, StepReport<V>& report) {
    for (std::int64_t s = 0; s < n; ++s) {
        next[s] = x[s] - rates.step * g[s];
        if (noisy) next[s] += rates.noise * z[s];
    }
    const V total = project_onto_simplex<V>(n, next);
    normalise(n, total, V{}, next, report);
}

// Terms that are added to every objective; see SimplexTerms.
template <class V, class X, class G>
HL_INLINE void add_terms(std::int64_t d, const SimplexTerms<RealOf<V>>& terms, X x, G gradient,
                         V& value) {
    using T = RealOf<V>;
    const T one = 1, zero = 0;
    V sum{};
    for (std::int64_t s = 0; s < d; ++s) {
        sum += (terms.ridge * x[s]) * x[s];
        V slope = (terms.ridge + terms.ridge) * x[s];
        if (terms.entropy != zero) {
            const V lowest = broadcast<V>(smallest_weight<V>);
            const V logarithm = log_positive(V(x[s] < lowest ? lowest : x[s]));
            sum += terms.entropy * (x[s] * logarithm);
            slope += terms.entropy * (logarithm + one);
        }
        if (terms.turnover != zero) {
            const V change = x[s] - terms.anchor[s];
            const V cost = square_root(V(change * change + terms.smoothing * terms.smoothing));
            sum += terms.turnover * cost;
            slope += terms.turnover * (change / cost);
        }
        if (terms.upper != nullptr) {
            const V above = x[s] - terms.upper[s];
            const V excess = above > zero ? above : V{};
            sum += (terms.penalty * excess) * excess;
            slope += (terms.penalty + terms.penalty) * excess;
        }
        gradient[s] += slope;
    }
    for (std::int64_t group = 0; group < terms.num_groups; ++group) {
        const std::int32_t begin = terms.group_offsets[group];
        const std::int32_t end = terms.group_offsets[group + 1];
        V held{};
        for (std::int32_t k = begin; k < end; ++k)
            held += x[terms.group_members[k]];
        const V above = held - terms.caps[group];
        const V excess = above > zero ? above : V{};
        sum += (terms.penalty * excess) * excess;
        const V slope = (terms.penalty + terms.penalty) * excess;
        for (std::int32_t k = begin; k < end; ++k)
            gradient[terms.group_members[k]] += slope;
    }
    value += sum;
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
