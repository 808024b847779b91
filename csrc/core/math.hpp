// Elementary functions of class A: +, -, *, / and sqrt only, in a fixed order and never fused, so
// that every compiler, instruction set and device returns the same bits. About 1 ulp. The
// coefficients are near-minimax fits (fit_math.py). The Numba twin is _runtime/_numba_math.py.
#pragma once

#include "pack.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

template <class V>
using RealOf = typename LaneTraits<V>::Real;

template <class V>
using WordsOf = typename LaneTraits<V>::Words;

template <class V>
constexpr bool is_single = sizeof(RealOf<V>) == 4;

// |x|.
template <class V>
HL_INLINE V magnitude(V x) {
    if constexpr (is_single<V>) {
        return as_real(as_words(x) & 0x7fffffffu);
    } else {
        return as_real(as_words(x) & 0x7fffffffffffffffu);
    }
}

// log(1 + f) for sqrt(1/2) - 1 <= f <= sqrt(2) - 1: f - f^2/2 + f^3 P(f).
template <class V>
HL_INLINE V log1p_reduced_f32(V f) {
    const V f2 = f * f;
    const V f4 = f2 * f2;
    // Estrin's scheme: half the latency of Horner's.
    const V p01 = 0x1.555554p-2f + f * -0x1.000228p-2f;
    const V p23 = 0x1.99a008p-3f + f * -0x1.547244p-3f;
    const V p45 = 0x1.22da22p-3f + f * -0x1.0d8552p-3f;
    const V p67 = 0x1.055b48p-3f + f * -0x1.38b4d2p-4f;
    const V p = (p01 + f2 * p23) + f4 * (p45 + f2 * p67);
    return f + f2 * (f * p - 0.5f);
}

// log(x) for positive normal x.
template <class V>
HL_INLINE V log_positive(V x) {
    using W = WordsOf<V>;
    if constexpr (is_single<V>) {
        // Shift the binade so that the mantissa falls into [sqrt(1/2), sqrt(2)).
        const W shifted = as_words(x) + (0x3f800000u - 0x3f3504f3u);
        const V k = signed_to_real((shifted >> 23) - 127u);
        const V f = as_real((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
        return log1p_reduced_f32(f) + k * 0x1.62e430p-1f;
    } else {
        const W shifted = as_words(x) + (0x3ff0000000000000u - 0x3fe6a09e667f3bcdu);
        const V k = as_real((shifted >> 52) | 0x4330000000000000u) - (0x1p52 + 1023.0);
        const V f = as_real((shifted & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu) - 1.0;
        // With s = f/(2+f): log(1+f) = 2 atanh(s) = f - (f^2/2 - s (f^2/2 + R(s^2))).
        const V s = f / (2.0 + f);
        const V z = s * s;
        const V z2 = z * z;
        const V q01 = 0x1.5555555555592p-1 + z * 0x1.999999997fdb6p-2;
        const V q23 = 0x1.24924941f135ap-2 + z * 0x1.c71c520951686p-3;
        const V q45 = 0x1.74663eea8f93fp-3 + z * 0x1.39a1ba85757a4p-3;
        const V q = (q01 + z2 * q23) + (z2 * z2) * (q45 + z2 * 0x1.2f0565538e258p-3);
        const V half_square = 0.5 * f * f;
        const V tail = s * (half_square + z * q) + k * 0x1.ef35793c76730p-45;
        return k * 0x1.62e42fefa3800p-1 - ((half_square - tail) - f);
    }
}

// sin and cos of a quarter turn times t, |t| <= 1/2.
template <class V>
HL_INLINE void sincos_quarter(V t, V& sine, V& cosine) {
    const V w = t * t;
    if constexpr (is_single<V>) {
        const V s = -0x1.4abbc0p-1f + w * (0x1.466030p-4f + w * -0x1.2dd046p-8f);
        const V c = 0x1.03c1e8p-2f + w * (-0x1.55ca32p-6f + w * 0x1.dae684p-11f);
        sine = t * (0x1.921fb6p+0f + w * s);
        cosine = 1.0f + w * (-0x1.3bd3ccp+0f + w * c);
    } else {
        const V w2 = w * w;
        const V s01 = -0x1.4abbce625be47p-1 + w * 0x1.466bc67758d85p-4;
        const V s23 = -0x1.32d2cce3332c0p-8 + w * 0x1.5078301b609e5p-13;
        const V s45 = -0x1.e300a658b4acep-19 + w * 0x1.e403d00aeb1d9p-25;
        const V c01 = 0x1.03c1f081b5abcp-2 + w * -0x1.55d3c7e3ca707p-6;
        const V c23 = 0x1.e1f506852a242p-11 + w * -0x1.a6d1edbcb4094p-16;
        const V c45 = 0x1.f9cd217110b53p-22 + w * -0x1.b2a255f14e8e9p-28;
        const V s = s01 + w2 * (s23 + w2 * s45);
        const V c = c01 + w2 * (c23 + w2 * c45);
        // pi/2 and pi^2/8 in two parts: their rounding would cost half an ulp each.
        sine = t * 0x1.921fb54442d18p+0 + t * (0x1.1a62633145c07p-54 + w * s);
        cosine = 1.0 - (w * 0x1.3bd3cc9be45dep+0 - w * (w * c - 0x1.692b71366cc04p-54));
    }
}

// The bits of `value` with the sign flipped where the top bit of `sign` is set.
template <class V>
HL_INLINE V flip_sign(V value, WordsOf<V> sign) {
    if constexpr (is_single<V>) {
        return as_real(as_words(value) ^ (sign & 0x80000000u));
    } else {
        return as_real(as_words(value) ^ ((sign & 0x80000000u) << 32));
    }
}

// r cos and r sin of the angle that is `turn` 2^-32 of a full turn; the reduction is exact.
template <class V>
HL_INLINE void polar_turns(V r, WordsOf<V> turn, V& along, V& across) {
    const WordsOf<V> y = turn + 0x20000000u;  // top two bits: the quadrant
    V t;
    if constexpr (is_single<V>) {
        t = signed_to_real((y & 0x3fffffffu) - 0x20000000u) * 0x1p-30f;
    } else {
        t = (as_real((y & 0x3fffffffu) | 0x4330000000000000u) - (0x1p52 + 0x1p29)) * 0x1p-30;
    }
    V sine, cosine;
    sincos_quarter(t, sine, cosine);
    const auto odd_quadrant = (y & 0x40000000u) != 0;
    along = flip_sign(V(r * (odd_quadrant ? sine : cosine)), WordsOf<V>(y + 0x40000000u));
    across = flip_sign(V(r * (odd_quadrant ? cosine : sine)), y);
}

// exp(x) = scale (1 + what is returned), for |x| <= 80 in float, |x| <= 700 in double.
template <class V>
HL_INLINE V exp_reduced(V x, V& scale) {
    if constexpr (is_single<V>) {
        // Adding 1.5 2^23 rounds to an integer and leaves it in the low bits.
        const V magic = x * 0x1.715476p+0f + 0x1.8p+23f;
        const V k = magic - 0x1.8p+23f;
        const V r = (x - k * 0x1.62ep-1f) - k * 0x1.0bfbe8p-15f;
        const V e = 0.5f + r * (0x1.555486p-3f +
                                r * (0x1.555454p-5f + r * (0x1.124148p-7f + r * 0x1.6dbc64p-10f)));
        scale = as_real((as_words(magic) << 23) + 0x3f800000u);
        return r + (r * r) * e;
    } else {
        const V magic = x * 0x1.71547652b82fep+0 + 0x1.8p+52;
        const V k = magic - 0x1.8p+52;
        const V r = (x - k * 0x1.62e42fefa0000p-1) - k * 0x1.cf79abc9e3b3ap-40;
        const V r2 = r * r;
        const V r4 = r2 * r2;
        const V e01 = 0x1.000000000000dp-1 + r * 0x1.5555555555561p-3;
        const V e23 = 0x1.555555554f90ap-5 + r * 0x1.111111110d52ep-7;
        const V e45 = 0x1.6c16c1873cbc4p-10 + r * 0x1.a01a01bb5b4a4p-13;
        const V e67 = 0x1.a019923726903p-16 + r * 0x1.71ddde8adfb28p-19;
        const V e89 = 0x1.28b460d087ae8p-22 + r * 0x1.af87c2987e52ep-26;
        const V e = (e01 + r2 * e23) + r4 * ((e45 + r2 * e67) + r4 * e89);
        scale = as_real((as_words(magic) << 52) + 0x3ff0000000000000u);
        return r + r2 * e;
    }
}

// exp(x) for |x| <= 80 in float, |x| <= 700 in double.
template <class V>
HL_INLINE V exp_bounded(V x) {
    V scale;
    const RealOf<V> one = 1;
    const V p = one + exp_reduced(x, scale);
    return p * scale;
}

// 1 / (1 + exp(-x)); |x| is clamped to 40 (float) or 700 (double), beyond which nothing changes.
template <class V>
HL_INLINE V sigmoid(V x) {
    const RealOf<V> limit = is_single<V> ? RealOf<V>(40) : RealOf<V>(700);
    const V bound = broadcast<V>(limit);
    x = x > bound ? bound : x;
    x = x < -bound ? V(-bound) : x;
    const RealOf<V> one = 1;
    return one / (one + exp_bounded(V(-x)));
}

// x in quarter turns, less the nearest whole number, whose last bits are the quadrant: |x| <= 100
// in float, 10^6 in double.
template <class V>
HL_INLINE V quarter_turns(V x, WordsOf<V>& quadrant) {
    if constexpr (is_single<V>) {
        const V magic = x * 0x1.45f306p-1f + 0x1.8p+23f;
        const V k = magic - 0x1.8p+23f;
        const V r = ((x - k * 0x1.92p+0f) - k * 0x1.fbp-12f) - k * 0x1.5110b4p-22f;
        quadrant = as_words(magic);
        return r * 0x1.45f306p-1f;
    } else {
        const V magic = x * 0x1.45f306dc9c883p-1 + 0x1.8p+52;
        const V k = magic - 0x1.8p+52;
        const V r = ((x - k * 0x1.921fb54400000p+0) - k * 0x1.0b4611a600000p-34) -
                    k * 0x1.3198a2e037073p-69;
        quadrant = as_words(magic);
        return r * 0x1.45f306dc9c883p-1;
    }
}

// sin(x), absolute error about 1 ulp of 1 for |x| <= 100 (float) or 10^6 (double).
template <class V>
HL_INLINE V sine(V x) {
    WordsOf<V> quadrant;
    const V t = quarter_turns(x, quadrant);
    V sine_part, cosine_part;
    sincos_quarter(t, sine_part, cosine_part);
    const auto odd_quadrant = (quadrant & 1) != 0;
    return flip_sign(V(odd_quadrant ? cosine_part : sine_part), WordsOf<V>(quadrant << 30));
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
