// More elementary functions of class A, made of those of math.hpp: about 2 ulp. The Numba twin is
// _runtime/_numba_math.py.
#pragma once

#include "math.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

template <class V>
constexpr RealOf<V> exp_bound = is_single<V> ? RealOf<V>(80) : RealOf<V>(700);

// x, but not outside [-bound, bound]; NaN stays.
template <class V>
HL_INLINE V clamp(V x, RealOf<V> bound) {
    const V high = broadcast<V>(bound);
    x = x > high ? high : x;
    return x < -high ? V(-high) : x;
}

// The magnitude of `value` with the sign of `sign`.
template <class V>
HL_INLINE V with_sign_of(V sign, V value) {
    if constexpr (is_single<V>) {
        return as_real(as_words(value) | (as_words(sign) & 0x80000000u));
    } else {
        return as_real(as_words(value) | (as_words(sign) & 0x8000000000000000u));
    }
}

// exp(x) - 1 for |x| within the bound of exp_bounded.
template <class V>
HL_INLINE V expm1_bounded(V x) {
    V scale;
    const V reduced = exp_reduced(x, scale);
    return scale * reduced + (scale - RealOf<V>(1));
}

// log(1 + x) for x > -1, 1 + x normal and finite: the rounding of 1 + x is put right.
template <class V>
HL_INLINE V log1p(V x) {
    const RealOf<V> one = 1;
    const V w = one + x;
    return log_positive(w) + (x - (w - one)) / w;
}

// log(1 + u) - u / (1 + u) for u >= 0. Near 0 the two nearly cancel: with s = u / (2 + u) the first
// is 2 s + s R(s^2) and the second 2 s / (1 + s).
template <class V>
HL_INLINE V log1p_excess(V u) {
    using T = RealOf<V>;
    const T one = 1, two = 2;
    const V s = u / (two + u);
    const V z = s * s;
    V q;
    if constexpr (is_single<V>) {
        q = 0x1.555556p-1f + z * (0x1.99999ap-2f + z * (0x1.24924ap-2f + z * 0x1.c71c72p-3f));
    } else {
        const V z2 = z * z;
        const V q01 = 0x1.5555555555592p-1 + z * 0x1.999999997fdb6p-2;
        const V q23 = 0x1.24924941f135ap-2 + z * 0x1.c71c520951686p-3;
        const V q45 = 0x1.74663eea8f93fp-3 + z * 0x1.39a1ba85757a4p-3;
        q = (q01 + z2 * q23) + (z2 * z2) * (q45 + z2 * 0x1.2f0565538e258p-3);
    }
    const V near = two * z / (one + s) + s * z * q;
    const V far = log1p(u) - u / (one + u);
    return u < broadcast<V>(T(0.41421356)) ? near : far;
}

// sin(x) and cos(x), like sine.
template <class V>
HL_INLINE void sine_cosine(V x, V& sine_value, V& cosine_value) {
    WordsOf<V> quadrant;
    const V t = quarter_turns(x, quadrant);
    V sine_part, cosine_part;
    sincos_quarter(t, sine_part, cosine_part);
    const auto odd_quadrant = (quadrant & 1) != 0;
    sine_value = flip_sign(V(odd_quadrant ? cosine_part : sine_part), WordsOf<V>(quadrant << 30));
    cosine_value =
        flip_sign(V(odd_quadrant ? sine_part : cosine_part), WordsOf<V>((quadrant + 1) << 30));
}

template <class V>
HL_INLINE V hyperbolic_tangent(V x) {
    const RealOf<V> two = 2;
    const V e = expm1_bounded(V(-two * clamp(magnitude(x), exp_bound<V> / two)));
    return with_sign_of(x, V(-e / (two + e)));
}

// log(1 + exp(x)).
template <class V>
HL_INLINE V softplus(V x) {
    const V zero{};
    return (x > zero ? x : zero) + log1p(exp_bounded(V(-clamp(magnitude(x), exp_bound<V>))));
}

// The standard normal density and distribution function. The tail is density times Mills' ratio
// M(t), t = |x|, with (t + 4) M(t) / 4 a polynomial of (t - 4) / (t + 4): it keeps its digits.
template <class V>
HL_INLINE void normal_law(V x, V& density, V& distribution) {
    using T = RealOf<V>;
    const T bound = is_single<V> ? T(12.5) : T(37);
    const T one = 1, half = T(0.5), four = 4;
    const V t = clamp(magnitude(x), bound);
    density = T(0.39894228040143267794) * exp_bounded(V(-half * t * t));
    const V y = (t - four) / (t + four);
    constexpr int terms = is_single<V> ? 10 : 25;
    constexpr T coefficients[] = {
        T(0x1.e4aa012912ddep-2),   T(-0x1.8615d9b49165cp-2),  T(0x1.f0d9856bc3b09p-3),
        T(-0x1.dec30ee679455p-4),  T(0x1.360ce26020917p-5),   T(-0x1.35aa3c94aa5bep-8),
        T(-0x1.1dcfea79d0351p-9),  T(0x1.0be6d6586eee9p-10),  T(0x1.5e7b1b7339891p-14),
        T(-0x1.2fb42e0050283p-13), T(-0x1.4100088da46edp-20), T(0x1.717ed22db4920p-16),
        T(0x1.e2328cb860a35p-22),  T(-0x1.f1ed3156dd40dp-19), T(-0x1.a7a1169092435p-22),
        T(0x1.5799aed19d4e5p-21),  T(0x1.6d7b0c0561056p-23),  T(-0x1.a02bc724e9155p-24),
        T(-0x1.ca2b97a041281p-25), T(0x1.17de2b85e5755p-27),  T(0x1.a1289e7fba3aep-27),
        T(0x1.6155fe457e046p-30),  T(-0x1.9e5f4bb077cb7p-30), T(-0x1.0368c003dd05dp-31),
        T(-0x1.059e6ccc6f0ffp-36)};
    constexpr T single_coefficients[] = {T(0x1.e4aa02p-2),  T(-0x1.8615dap-2), T(0x1.f0d94cp-3),
                                         T(-0x1.dec326p-4), T(0x1.361a66p-5),  T(-0x1.356a06p-8),
                                         T(-0x1.220b86p-9), T(0x1.03a3f2p-10), T(0x1.1c8c98p-13),
                                         T(-0x1.2b26fp-14)};
    const T* const c = is_single<V> ? single_coefficients : coefficients;
    V p = broadcast<V>(c[terms - 1]);
    for (int k = terms - 2; k >= 0; --k)
        p = c[k] + y * p;
    const V tail = density * (p * (four / (t + four)));
    distribution = x < V{} ? tail : V(one - tail);
}

// --- differences of log gamma and digamma, for counts
// ---------------------------------------------

// Counts up to this one go through finite products, which are exact at any theta.
constexpr int largest_product = 16;

// Stirling's tail of log gamma: log gamma(z) = (z - 1/2) log z - z + log(2 pi)/2 + tail, z >= 16.
template <class V>
HL_INLINE V stirling_tail(V z) {
    const V w = 1.0 / z;
    const V w2 = w * w;
    return w * (0x1.5555555555555p-4 -
                w2 * (0x1.6c16c16c16c17p-9 -
                      w2 * (0x1.a01a01a01a01ap-11 -
                            w2 * (0x1.3813813813814p-11 - w2 * 0x1.b951e2b18ff23p-11))));
}

// psi(z) = log z - 1/(2 z) - tail, z >= 16.
template <class V>
HL_INLINE V digamma_tail(V z) {
    const V w = 1.0 / z;
    const V w2 = w * w;
    return w2 * (0x1.5555555555555p-4 -
                 w2 * (0x1.1111111111111p-7 -
                       w2 * (0x1.0410410410410p-8 -
                             w2 * (0x1.1111111111111p-8 - w2 * 0x1.f07c1f07c1f08p-8))));
}

// log gamma(theta + x) - log gamma(theta) and the same of digamma, for any x >= 0 and theta > 0, in
// double: both arguments are moved up by 16 first.
template <class V>
HL_INLINE void rising_any(V theta, V x, V& log_gamma, V& digamma) {
    V product = broadcast<V>(1), sum{};
    for (int i = 0; i < largest_product; ++i) {
        const V below = theta + static_cast<double>(i);
        const V ratio = x / below;
        product = product * (1.0 + ratio);
        sum = sum + ratio / (below + x);
    }
    const V a = theta + static_cast<double>(largest_product);
    const V b = a + x;
    const V ratio = log1p(V(x / a));
    log_gamma = (a - 0.5) * ratio + x * (log_positive(b) - 1.0) +
                (stirling_tail(b) - stirling_tail(a)) - log_positive(product);
    digamma = (ratio + 0.5 * (x / (a * b))) - (digamma_tail(b) - digamma_tail(a)) + sum;
}

// The same, by products where x is whole and at most 16.
template <class V>
HL_INLINE void rising(V theta, V x, V& log_gamma, V& digamma) {
    V product = broadcast<V>(1), sum{};
    V any = x > broadcast<V>(largest_product) ? x : V{};
    for (int i = 0; i < largest_product; ++i) {
        const double count = i;
        const auto inside = x > broadcast<V>(count);
        if (!any_lane(inside)) break;
        const V factor = theta + count;
        product = inside ? V(product * factor) : product;
        sum = inside ? V(sum + 1.0 / factor) : sum;
        // A count that is not whole ends between two integers.
        any = inside && x < broadcast<V>(count + 1.0) ? x : any;
    }
    log_gamma = log_positive(product);
    digamma = sum;
    if (any_lane(any > V{})) {
        V general, slope;
        rising_any(theta, x, general, slope);
        log_gamma = any > V{} ? general : log_gamma;
        digamma = any > V{} ? slope : digamma;
    }
}

template <class V>
HL_INLINE V log_factorial(V x) {
    V value, unused;
    rising(broadcast<V>(1), x, value, unused);
    return value;
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
