// Likelihoods of counts whose means are L softmax(h), in the forms that lose nothing: theta / mu
// never appears, and log mu = log L + h - log sum exp h. Most counts are 0, so a row is done as if
// all of them were, and what a count that isn't adds comes after (Lopez et al., Nature Methods
// 2018, write the density; the forms are those of docs/nn.md).
#pragma once

#include "../core/special.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// log theta is kept within these in the forward pass; the gradient goes through.
constexpr double lowest_log_theta = -10, highest_log_theta = 15;

// Of a count of 0: -log p = theta log(1 + u) with u = mu / theta.
template <class V>
struct ZeroCount {
    V loss;
    V slope;        // d log p / d log mu
    V theta_slope;  // d log p / d log theta
};

template <class V>
HL_INLINE ZeroCount<V> zero_count(V mu, V theta) {
    const RealOf<V> one = 1;
    const V u = mu / theta;
    return {V(theta * log1p(u)), V(-mu / (one + u)), V(-theta * log1p_excess(u))};
}

// What a count x > 0 adds to those, in double.
template <class V>
HL_INLINE ZeroCount<V> count_excess(V x, V log_mu, V theta, V log_theta) {
    const V u = exp_bounded(clamp(log_mu, 700.0)) / theta;
    V log_gamma, digamma;
    rising(theta, x, log_gamma, digamma);
    const V share = x / (1.0 + u);
    const V log_odds = log_mu - log_theta - log1p(u);
    return {V(log_factorial(x) - log_gamma - x * log_odds), share, V(theta * digamma - share)};
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
