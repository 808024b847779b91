// One parameter of the preconditioned inexact stochastic ADMM of Zhou et al. (arXiv 2502.10784):
// PISA, SISA and NSISA on foreign gradients. The local copies w_i are never stored: with
// u = g_i + pi_i and d = (sigma_i + rho_i Q_i)^-1 u they are w - d, and
//     pi_i <- pi_i - sigma_i d,    w <- [A w + sum_i alpha_i (pi_i - sigma_i d)] / (A + lambda)
// where A = sum_i alpha_i sigma_i and the pi_i in the bracket are the new ones.
#pragma once

#include "../core/math.hpp"

namespace hl {

// What Q_i is: a constant, a diagonal of the caller's, the root of the second moment of u
// (AdaGrad, RMSProp, Adam), or |u| (the soft-sign of NSISA).
enum class Preconditioner : std::int32_t {
    constant = 0,
    diagonal = 1,
    second_moment = 2,
    softsign = 3,
};

inline namespace HL_ISA_NAMESPACE {

// The numbers of one client's step, in the precision of the state.
template <class T>
struct SisaScalars {
    T alpha, sigma, rho;
    T gradient_scale;  // gradients are multiplied by it: the inverse of a loss scale
    T coupled_decay;   // u also has this times w
    T constant;        // Q where it is a constant
    T eps;             // Q + eps is used everywhere
    T keep, gain;      // V <- keep V + gain u^2
    T correction;      // of the bias of V
    T cap;             // Q^2 never exceeds it
};

// What the global step makes of w and of the sum s: w + (s scale - shrink w). In this form w stands
// still, to the last bit, when s and shrink are zero.
template <class T>
struct SisaGlobal {
    T scale;   // 1 / (A + lambda)
    T shrink;  // (lambda + A (1 - decoupled decay)) / (A + lambda)
};

// Equations of the paper's Algorithm 1, schemes I to III: returns Q from the new V.
template <class V>
HL_INLINE V second_moment_root(V& moment, V u, const SisaScalars<RealOf<V>>& c) {
    moment = c.keep * moment + c.gain * (u * u);
    const V corrected = moment * c.correction;
    return square_root(V(corrected > c.cap ? broadcast<V>(c.cap) : corrected));
}

// Returns alpha_i (pi_i - sigma_i d) with the new pi_i, which replaces `dual`.
template <class V, Preconditioner kind>
HL_INLINE V sisa_client(V gradient, V decayed, V& dual, V& moment,
                        const SisaScalars<RealOf<V>>& c) {
    const V u = (c.gradient_scale * gradient + decayed) + dual;
    V q;
    if constexpr (kind == Preconditioner::constant) q = broadcast<V>(c.constant);
    if constexpr (kind == Preconditioner::diagonal) q = moment;
    if constexpr (kind == Preconditioner::second_moment) q = second_moment_root(moment, u, c);
    if constexpr (kind == Preconditioner::softsign) q = u < RealOf<V>(0) ? V(-u) : u;
    const V step = c.sigma * (u / (c.sigma + c.rho * (q + c.eps)));
    dual = dual - step;
    return c.alpha * (dual - step);
}

template <class V>
HL_INLINE V sisa_global(V w, V sum, const SisaGlobal<RealOf<V>>& c) {
    return w + (sum * c.scale - c.shrink * w);
}

// Momentum of NSISA: B <- beta B + G; returns the look-ahead G + beta B.
template <class V>
HL_INLINE V nesterov_momentum(V gradient, V& momentum, RealOf<V> beta, RealOf<V> gradient_scale) {
    const V scaled = gradient_scale * gradient;
    momentum = beta * momentum + scaled;
    return scaled + beta * momentum;
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
