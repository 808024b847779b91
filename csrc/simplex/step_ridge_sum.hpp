// The functions q of a sum of ridge functions c . x + sum_t w_t q(y_t), y_t = (r_t - m) . x: value
// and slope at one y. Products are added with one rounding where the processor has that.
#pragma once

#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// Rows whose sums stay in the precision of the chains before they are added in double.
constexpr std::int64_t panel_rows = 128;

template <class V>
struct ValueAndSlope {
    V value, slope;
};

// sum_k a_k y^k by Horner's rule; A holds numbers or packs.
template <class V, class A>
HL_INLINE ValueAndSlope<V> polynomial_profile(V y, const A* a, std::int32_t count) {
    V value = a[count - 1] - V{}, slope{};
    for (std::int32_t k = count - 2; k >= 0; --k) {
        slope = multiply_add(slope, y, value);
        value = multiply_add(value, y, V(a[k] - V{}));
    }
    return {value, slope};
}

// The logarithm of a positive normal number.
template <class V>
HL_INLINE V log_wealth(V wealth) {
    const RealOf<V> least = is_single<V> ? RealOf<V>(1.2e-38) : RealOf<V>(2.3e-308);
    return log_positive(V(wealth > least ? wealth : broadcast<V>(least)));
}

// A cost without wealth is infinite, which stops the chain.
template <class V>
HL_INLINE V if_solvent(V wealth, V cost) {
    const RealOf<V> one = 1, zero = 0;
    return wealth > zero ? cost : V(one / V{});
}

// -log(1 + y).
template <class V>
HL_INLINE ValueAndSlope<V> log_profile(V y) {
    const RealOf<V> one = 1;
    const V wealth = one + y;
    return {if_solvent(wealth, V(-log_wealth(wealth))), V((-one) / wealth)};
}

// exp(x), x cut to where it can be represented.
template <class V>
HL_INLINE V exp_cut(V x) {
    const V bound = broadcast<V>(is_single<V> ? RealOf<V>(80) : RealOf<V>(700));
    x = x > bound ? bound : x;
    x = x < -bound ? V(-bound) : x;
    return exp_bounded(x);
}

// (1 - W^(1 - a)) / (1 - a), W = 1 + y.
template <class V>
HL_INLINE ValueAndSlope<V> power_profile(V y, RealOf<V> aversion) {
    const RealOf<V> one = 1;
    const V wealth = one + y;
    const RealOf<V> exponent = one - aversion;
    const V power = exp_cut(V(exponent * log_wealth(wealth)));
    return {if_solvent(wealth, V((one - power) / exponent)), V(-(power / wealth))};
}

// exp(-a W) / a, W = 1 + y.
template <class V>
HL_INLINE ValueAndSlope<V> exponential_profile(V y, RealOf<V> aversion) {
    const RealOf<V> one = 1;
    const V utility = exp_cut(V(-(aversion * (one + y))));
    return {V(utility / aversion), V(-utility)};
}

// q at y; `polynomial` is that of the row, where rows have their own.
template <class V, class T, class A>
HL_INLINE ValueAndSlope<V> row_profile(const SimplexRidgeSum<T>& p, V y, const A* polynomial) {
    switch (p.profile) {
        case SimplexProfile::power_utility:
            return power_profile(y, p.coefficients[0]);
        case SimplexProfile::log_utility:
            return log_profile(y);
        case SimplexProfile::exponential_utility:
            return exponential_profile(y, p.coefficients[0]);
        default:
            return polynomial_profile(y, polynomial, p.num_coefficients);
    }
}

// a_0 m_2 + a_1 m_3 / m_2^(3/2) + a_2 m_4 / m_2^2 from the moments, and the polynomial
// b_1 y + b_2 y^2 + b_3 y^3 that times w_t is its derivative with respect to y_t.
template <class V>
struct StandardisedMoments {
    V value;
    V slope[4];
};

template <class V>
HL_INLINE StandardisedMoments<V> standardised_moments(V m2, V m3, V m4, const RealOf<V>* a) {
    const RealOf<V> one = 1, two = 2, three = 3, four = 4;
    const V inverse = one / m2;
    const V skew_scale = inverse * square_root(inverse);
    const V tail_scale = inverse * inverse;
    const V skew = m3 * skew_scale, tail = m4 * tail_scale;
    StandardisedMoments<V> found;
    found.value = (a[0] * m2 + a[1] * skew) + a[2] * tail;
    found.slope[0] = V{};
    found.slope[1] = (broadcast<V>(two * a[0]) - (three * a[1]) * (skew * inverse)) -
                     (four * a[2]) * (tail * inverse);
    found.slope[2] = (three * a[1]) * skew_scale;
    found.slope[3] = (four * a[2]) * tail_scale;
    return found;
}

// The row of sample r of a minibatch from its word, with a bias of at most T 2^-32.
HL_INLINE std::uint32_t sampled_row(std::uint32_t word, std::int64_t num_rows) {
    return static_cast<std::uint32_t>(
        (static_cast<std::uint64_t>(word) * static_cast<std::uint64_t>(num_rows)) >> 32);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
