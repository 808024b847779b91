// Accelerated multiplicative weights: Riemannian accelerated gradient descent with the
// multiplicative retraction, without noise.
//
//     gbar = (1 - a) gamma + a mu,            theta = a gamma / (gamma + a mu)
//     y  ~ x^(1 - theta) v^theta,             x' ~ y exp(-eps g(y))
//     v' ~ y (v / y)^((1 - a) gamma / gbar) exp(-(a / gbar) g(y)),     gamma' = gbar
//
// each divided by its sum (Y. Feng, I. Panageas, X. Wang, IJCAI 2022, arXiv 2204.11407, in this
// general form).
#pragma once

#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

template <class V>
struct Acceleration {
    V mix;    // theta
    V keep;   // (1 - a) gamma / gbar
    V pull;   // a / gbar
    V gamma;  // of the next step
};

template <class V>
HL_INLINE Acceleration<V> acceleration_rates(V a, V gamma, RealOf<V> mu) {
    const RealOf<V> one = 1;
    const V kept = (one - a) * gamma;
    const V next = kept + a * mu;
    return {(a * gamma) / (gamma + a * mu), kept / next, a / next, next};
}

// next[s] ~ exp(next[s]) with sum 1, none below `smallest_weight`.
template <class V, class Y>
HL_INLINE void normalise_logarithms(std::int64_t n, Y next, StepReport<V>& report) {
    const RealOf<V> lowest = is_single<V> ? RealOf<V>(-80) : RealOf<V>(-700);
    V top = next[0];
    for (std::int64_t s = 1; s < n; ++s)
        top = next[s] > top ? next[s] : top;
    V total{};
    for (std::int64_t s = 0; s < n; ++s) {
        const V below = next[s] - top;
        next[s] = exp_bounded(V(below < lowest ? broadcast<V>(lowest) : below));
        total += next[s];
    }
    normalise(n, total, broadcast<V>(smallest_weight<V>), next, report);
}

// y of one simplex.
template <class V, class X, class W, class Y>
HL_INLINE void accelerated_middle(std::int64_t n, const Acceleration<V>& rates, X x, W v, Y y,
                                  StepReport<V>& report) {
    const RealOf<V> one = 1;
    for (std::int64_t s = 0; s < n; ++s)
        y[s] = (one - rates.mix) * log_positive(x[s]) + rates.mix * log_positive(v[s]);
    normalise_logarithms(n, y, report);
}

// v' of one simplex from v, which `slow` holds, and the gradient at y.
template <class V, class Y, class G, class W>
HL_INLINE void accelerated_slow(std::int64_t n, const Acceleration<V>& rates, Y y, G g, W slow,
                                StepReport<V>& report) {
    const V pull = inner_product<V>(n, g, y);
    for (std::int64_t s = 0; s < n; ++s) {
        const V here = log_positive(y[s]);
        slow[s] = (here + rates.keep * (log_positive(slow[s]) - here)) + rates.pull * (pull - g[s]);
    }
    normalise_logarithms(n, slow, report);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
