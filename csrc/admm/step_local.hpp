// The local step of one client and one parameter: Zhou, Wang, Luo, Zhu, Li, "Preconditioned Inexact
// Stochastic ADMM for Deep Models", arXiv:2502.10784, equations of PISA and SISA.
#pragma once

#include "../core/math.hpp"
#include "solve_kernels.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace admm {

// What the parameters of one client share in a round.
template <class Real>
struct LocalRates {
    Real sigma;       // penalty
    Real rho;         // weight of the preconditioner
    Real beta;        // decay of the second moment
    Real fresh;       // what a new square weighs in it
    Real correction;  // 1 - beta^t
    Real eps;
    Real cap;  // Q <= cap I
};

// u = g + pi -> (sigma + rho (Q + eps))^{-1} u with Q = Diag(sqrt(v)).
template <AdmmScheme scheme, class V>
HL_INLINE V local_direction(V u, V& second, const LocalRates<RealOf<V>>& rates) {
    using Real = RealOf<V>;
    if constexpr (scheme == AdmmScheme::identity) {
        const Real one = 1;
        return u / broadcast<V>(rates.sigma + rates.rho * (one + rates.eps));
    } else {
        V q = second;
        if constexpr (scheme != AdmmScheme::diag) {
            const V square = u * u;
            if constexpr (scheme == AdmmScheme::adagrad) {
                second = second + square;
            } else {
                second = rates.beta * second + rates.fresh * square;
            }
            q = second;
            if constexpr (scheme == AdmmScheme::adam) q = second / rates.correction;
            q = square_root(q);
        }
        q = q > broadcast<V>(rates.cap) ? broadcast<V>(rates.cap) : q;
        return u / (rates.sigma + rates.rho * (q + rates.eps));
    }
}

// PISA without preconditioner, rho = 0: pi' = pi - (g + pi) = -g, so that the dual is no less
// sparse than the gradient, and without penalties w' = w - sum alpha (2 g + pi) / sum alpha sigma,
// the optimistic gradient method. Written like this, what neither gradient reaches keeps its bits,
// and lists of entries can take the place of arrays.
template <class T>
HL_INLINE T optimistic_dual(T g) {
    return T(0) - g;
}

template <class T>
HL_INLINE double optimistic_step(T g, T dual) {
    return 2.0 * static_cast<double>(g) + static_cast<double>(dual);
}

// w - w_i.
template <class T>
HL_INLINE T optimistic_direction(T g, T dual, T sigma) {
    return (g + dual) / sigma;
}

}  // namespace admm
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
