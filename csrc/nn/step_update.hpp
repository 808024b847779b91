// Adam (Kingma, Ba, ICLR 2015), AdamW (Loshchilov, Hutter, ICLR 2019) and a moving average of the
// parameters: one step of some elements.
#pragma once

#include "../core/math.hpp"
#include "kernels.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

HL_INLINE double power(double base, std::int64_t exponent) {
    double result = 1;
    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1) result *= base;
        base *= base;
    }
    return result;
}

// What the gradient is multiplied with, so that its norm is at most clip_norm.
HL_INLINE double clip_factor(double clip_norm, double norm) {
    return clip_norm > 0 && norm + 1e-6 > clip_norm ? clip_norm / (norm + 1e-6) : 1.0;
}

// The numbers of one step.
template <class T>
struct NnStep {
    T clip, beta1, rest1, beta2, rest2, correction1, correction2, eps, learning_rate;
    T shrink, decay;  // AdamW's factor of the parameters; Adam's factor in the gradient
    T keep, take;     // of the average
};

// Without clipping.
template <class T>
HL_INLINE NnStep<T> step_of(const NnUpdateJob<T>& job) {
    const NnOptimizer& o = job.optimizer;
    const bool decoupled = o.kind == NnOptimizerKind::adamw;
    const double take =
        o.ema_decay > 0 ? (1 - o.ema_decay) / (1 - power(o.ema_decay, job.step)) : 0.0;
    return {T(1),
            static_cast<T>(o.beta1),
            static_cast<T>(1 - o.beta1),
            static_cast<T>(o.beta2),
            static_cast<T>(1 - o.beta2),
            static_cast<T>(1 / (1 - power(o.beta1, job.step))),
            static_cast<T>(1 / (1 - power(o.beta2, job.step))),
            static_cast<T>(o.eps),
            static_cast<T>(job.learning_rate),
            static_cast<T>(decoupled ? 1 - job.learning_rate * o.weight_decay : 1.0),
            static_cast<T>(decoupled ? 0.0 : o.weight_decay),
            static_cast<T>(1 - take),
            static_cast<T>(take)};
}

template <class T>
HL_INLINE NnStep<T> without_decay(NnStep<T> step) {
    step.shrink = 1;
    step.decay = 0;
    return step;
}

// Elements j, j + 1, ... of a pack V, or element j.
template <class V, class T>
HL_INLINE void update_elements(const NnState<T>& state, const T* gradient, std::int64_t j,
                               const NnStep<T>& s) {
    V p = load<V>(state.parameters + j);
    const V g = load<V>(gradient + j) * s.clip + s.decay * p;
    const V m = s.beta1 * load<V>(state.first_moment + j) + s.rest1 * g;
    const V v = s.beta2 * load<V>(state.second_moment + j) + s.rest2 * (g * g);
    const V root = square_root(V(v * s.correction2));
    p = p * s.shrink - s.learning_rate * (m * s.correction1) / (root + s.eps);
    store(state.first_moment + j, m);
    store(state.second_moment + j, v);
    store(state.parameters + j, p);
    if (state.average != nullptr) {
        T* const average = state.average + j;
        store(average, V(s.keep * load<V>(average) + s.take * p));
    }
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
