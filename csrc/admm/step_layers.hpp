// Activations of hidden units: the value and the slope.
#pragma once

#include "solve_kernels.hpp"
#include "step_losses.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace admm {

// tanh through exp(-2|x|). That quotient loses relative accuracy near zero, where four terms of the
// series are exact.
template <class V>
HL_INLINE V hyperbolic_tangent(V x) {
    using Real = RealOf<V>;
    const Real one = 1, minus_two = -2;
    const Real near = is_single<V> ? Real(0.1) : Real(0.01);
    const V size = x < broadcast<V>(0) ? V(-x) : x;
    const V e = exp_clamped(V(minus_two * size));
    const V far = (one - e) / (one + e);
    const V x2 = size * size;
    const V tail = x2 * (Real(1.0 / 3) - x2 * (Real(2.0 / 15) - x2 * Real(17.0 / 315)));
    const V h = size < broadcast<V>(near) ? V(size - size * tail) : far;
    return x < broadcast<V>(0) ? V(-h) : h;
}

template <class V>
HL_INLINE V activate(V x, AdmmActivation kind, V& slope) {
    using Real = RealOf<V>;
    const Real one = 1, half = Real(0.5);
    if (kind == AdmmActivation::relu) {
        slope = x > broadcast<V>(0) ? broadcast<V>(1) : broadcast<V>(0);
        return x < broadcast<V>(0) ? broadcast<V>(0) : x;
    }
    if (kind == AdmmActivation::tanh) {
        const V h = hyperbolic_tangent(x);
        slope = one - h * h;
        return h;
    }
    // x (1 + tanh(c (x + a x^3))) / 2 (Hendrycks, Gimpel, arXiv:1606.08415).
    const Real c = Real(0.79788456080286535588), a = Real(0.044715), three_a = Real(0.134145);
    const V x2 = x * x;
    const V t = hyperbolic_tangent(V(c * (x + a * x * x2)));
    slope = half * (one + t) + half * x * (one - t * t) * (c * (one + three_a * x2));
    return half * x * (one + t);
}

}  // namespace admm
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
