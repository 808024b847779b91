// Log gamma, its series and that of digamma, in double, for scalars and packs; of class A like
// math.hpp.
// The Numba twin is _runtime/_numba_log_gamma.py.
#pragma once

#include "special.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// exp(x) - 1 and exp(x) for |x| <= 700, the former to about 1 ulp however small x is.
template <class V>
HL_INLINE V exp_minus_one(V x, V& exponential) {
    static_assert(!is_single<V>, "in double only");
    V scale;
    const V reduced = exp_reduced(x, scale);
    exponential = scale * (1.0 + reduced);
    return scale * reduced + (scale - 1.0);
}

// Stirling's series: log gamma(x) = (x - 1/2) log x - x + log(2 pi)/2 + stirling_series(x); for x
// >= 10 within 1e-16.
template <class V>
HL_INLINE V stirling_series(V x) {
    static_assert(!is_single<V>, "in double only");
    const V y = 1.0 / x;
    const V w = y * y;
    const V c = -0x1.f6ab0d9993c7dp-10 + w * (0x1.a41a41a41a41ap-8 - w * 0x1.e4286cb0f5398p-6);
    const V b = -0x1.3813813813814p-11 + w * (0x1.b951e2b18ff23p-11 + w * c);
    return y * (0x1.5555555555555p-4 +
                w * (-0x1.6c16c16c16c17p-9 + w * (0x1.a01a01a01a01ap-11 + w * b)));
}

constexpr double stirling_least = 10.0;

// The smallest x + n >= 10 with a whole n >= 0; `product` is x (x + 1) ... (x + n - 1).
template <class V>
HL_INLINE V shift_to_stirling(V x, V& product) {
    product = broadcast<V>(1.0);
    for (int i = 0; i < 10; ++i) {
        const auto below = x < stirling_least;
        if (!any_lane(below)) break;
        product = below ? V(product * x) : product;
        x = below ? V(x + 1.0) : x;
    }
    return x;
}

// log gamma(x) for normal x > 0, within 1e-14 or 2 ulp, whichever is more.
template <class V>
HL_INLINE V log_gamma(V x) {
    V product;
    x = shift_to_stirling(x, product);
    const V main = (x - 0.5) * log_positive(x) - x;
    return (main + (0x1.d67f1c864beb5p-1 + stirling_series(x))) - log_positive(product);
}

// digamma(x) = log x - digamma_series(x), for x >= 10 within 1e-15.
template <class V>
HL_INLINE V digamma_series(V x) {
    static_assert(!is_single<V>, "in double only");
    const V y = 1.0 / x;
    const V w = y * y;
    const V b = -0x1.f07c1f07c1f08p-8 + w * (0x1.5995995995996p-6 - w * 0x1.5555555555555p-4);
    const V a =
        0x1.1111111111111p-7 + w * (-0x1.0410410410410p-8 + w * (0x1.1111111111111p-8 + w * b));
    return 0.5 * y + w * (0x1.5555555555555p-4 - w * a);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
