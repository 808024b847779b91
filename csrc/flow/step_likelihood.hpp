// log p of the negative binomial with mean mu and inverse dispersion theta, and its derivatives by
// log mu and log theta, in forms that keep their digits at any theta:
//
//   x = 0:    -theta log1p(mu / theta), as for most entries
//   x <= 16:  and the product of P(k + 1) / P(k) for k < x
//   above:    Stirling's series for the three log gammas at once, in which the large parts cancel
#pragma once

#include "../core/log_gamma.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

template <class V>
struct Likelihood {
    V value, mu_slope, theta_slope;
};

// For counts of zero.
template <class V>
HL_INLINE Likelihood<V> zero_count_likelihood(V mu, V theta) {
    const V odds = mu / theta;
    return {-(theta * log1p(odds)), -(theta * (mu / (theta + mu))), -(theta * log1p_excess(odds))};
}

// What a count of x adds to log P(0), and to its derivative by theta.
struct CountTerm {
    double logarithm, slope;
};

// The product of P(k + 1) / P(k), a part at a time where it leaves the range of double.
HL_INLINE CountTerm count_by_products(double x, double mu, double theta) {
    const double odds = mu / (theta + mu);
    double logarithm = 0.0, product = 1.0, slope = 0.0;
    for (double k = 0.0; k < x; k += 1.0) {
        const double factor = theta + k;
        product *= odds * factor / (k + 1.0);
        slope += (mu - k) / (factor * (theta + mu));
        if (product < 0x1p-400 || product > 0x1p400) {
            logarithm += log_positive(product);
            product = 1.0;
        }
    }
    return {logarithm + log_positive(product), slope};
}

HL_INLINE CountTerm count_by_series(double x, double mu, double theta) {
    const double half_log_turn = 0x1.d67f1c864beb5p-1;
    double product = 1.0, reciprocals = 0.0, shift = 0.0, a = theta;
    for (; a < stirling_least; a += 1.0) {
        product *= a;
        reciprocals += 1.0 / a;
        shift += 1.0;
    }
    const double end = theta + x;
    const double span = log1p((x - shift) / a);
    const double ratio = end / (theta + mu) * (mu / x);
    const double series = stirling_series(end) - stirling_series(a) - stirling_series(x);
    const double logarithm = (a - 0.5) * span + x * log_positive(ratio) -
                             shift * (log_positive(end) - 1.0) + log_positive(product);
    return {logarithm + (series - 0.5 * log_positive(x) - half_log_turn),
            (reciprocals + (span + (digamma_series(a) - digamma_series(end)))) - x / (theta + mu)};
}

// Where arithmetic stays finite.
template <class V>
HL_INLINE V clamp_mean(V mu) {
    return mu > 0x1p300 ? broadcast<V>(0x1p300) : mu;
}
template <class V>
HL_INLINE V clamp_dispersion(V theta) {
    theta = theta > 0x1p200 ? broadcast<V>(0x1p200) : theta;
    return theta < 0x1p-100 ? broadcast<V>(0x1p-100) : theta;
}

// x a whole number >= 0, mu and theta clamped.
HL_INLINE Likelihood<double> likelihood(double x, double mu, double theta) {
    const Likelihood<double> zero = zero_count_likelihood(mu, theta);
    if (x == 0.0) return zero;
    const CountTerm term =
        x <= 16.0 ? count_by_products(x, mu, theta) : count_by_series(x, mu, theta);
    const double minus_infinity = as_real(std::uint64_t{0xfff0000000000000u});
    return {mu > 0.0 ? zero.value + term.logarithm : minus_infinity,
            theta * ((x - mu) / (theta + mu)), zero.theta_slope + theta * term.slope};
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
