// Rows that are made in the kernel: features of a normal law, independent or autoregressive in
// time, and targets of a linear or a logistic model.
#pragma once

#include "../core/normal.hpp"
#include "kernels.hpp"
#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// AR(1) with unit variance: rho z_{t-1} + sqrt(1 - rho^2) xi; `root` is that square root.
template <class V>
HL_INLINE V autoregression(RealOf<V> rho, RealOf<V> root, V previous, V normal) {
    return rho * previous + root * normal;
}

// The target of a linear model.
template <class V>
HL_INLINE V linear_target(V margin, RealOf<V> noise_scale, V normal) {
    return margin + noise_scale * normal;
}

// The target of a logistic model: 1 with probability sigmoid(margin), else 0.
template <class V>
HL_INLINE V bernoulli_target(V margin, V u) {
    return u < sigmoid(margin) ? broadcast<V>(1) : broadcast<V>(0);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
