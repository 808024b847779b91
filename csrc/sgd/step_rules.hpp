// What may be done to a gradient and to the next iterate: clipping, weight decay, a schedule of the
// step size, projection. In this order: clip, decay, update, project.
#pragma once

#include "kernels.hpp"
#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// What the schedule multiplies the step sizes by at the global index `step`: steps count from 1 at
// `origin`. Polynomial: (k + offset)^-exponent. Piecewise: factors[number of boundaries < k].
template <class T>
HL_INLINE double schedule_factor(const SgdRules<T>& rules, std::int64_t step) {
    const std::int64_t k = step - rules.origin + 1;
    if (rules.schedule == Schedule::polynomial) {
        const double at = static_cast<double>(k) + rules.schedule_offset;
        return exp_bounded(-rules.exponent * log_positive(at));
    }
    if (rules.schedule == Schedule::piecewise) {
        std::int64_t i = 0;
        while (i < rules.num_boundaries && rules.boundaries[i] < k)
            ++i;
        return rules.factors[i];
    }
    return 1.0;
}

// The step size of a copy at a step, given the factor above. Without a schedule it is what it is.
template <class V, class T>
HL_INLINE V scheduled(const SgdRules<T>& rules, V step_size, double factor) {
    return rules.schedule == Schedule::constant ? step_size : V(step_size * static_cast<T>(factor));
}

// What multiplies a gradient of this squared norm so that its norm is at most `clip_norm`; 1 leaves
// all bits as they are.
template <class V>
HL_INLINE V clip_factor(V squared_norm, RealOf<V> clip_norm) {
    const V norm = square_root(squared_norm);
    return norm > broadcast<V>(clip_norm) ? V(clip_norm / norm) : broadcast<V>(1);
}

template <class V>
HL_INLINE V decayed(V gradient, RealOf<V> weight_decay, V theta) {
    return gradient + weight_decay * theta;
}

// Onto [low, high]; NaN stays NaN.
template <class V>
HL_INLINE V project_on_interval(V x, RealOf<V> low, RealOf<V> high) {
    const V l = broadcast<V>(low), h = broadcast<V>(high);
    x = x < l ? l : x;
    return x > h ? h : x;
}

// Onto the ball: |x - center|^2 is `squared_distance`.
template <class V>
struct BallProjection {
    V scale;
    decltype(V{} > V{}) outside;

    static HL_MEMBER BallProjection of(V squared_distance, RealOf<V> radius) {
        const V distance = square_root(squared_distance);
        return {V(radius / distance), distance > broadcast<V>(radius)};
    }
    // One coordinate: x, and x - center as it was rounded for the distance.
    HL_MEMBER V operator()(V x, V difference, RealOf<V> center) const {
        return outside ? V(center + difference * scale) : x;
    }
};

// Clips and decays the gradient of one copy, in place. `gradient` and `theta` are (d,).
template <class V>
HL_INLINE void rule_gradient(const SgdRules<RealOf<V>>& rules, std::int64_t d, const V* theta,
                             V* gradient) {
    if (rules.clips) {
        const V factor = clip_factor(dot(d, gradient, gradient), rules.clip_norm);
        for (std::int64_t i = 0; i < d; ++i)
            gradient[i] = gradient[i] * factor;
    }
    if (rules.decays) {
        for (std::int64_t i = 0; i < d; ++i)
            gradient[i] = decayed(gradient[i], rules.weight_decay, theta[i]);
    }
}

// Projects the next iterate of one copy, in place; `scratch` is (d,).
template <class V>
HL_INLINE void project(const SgdRules<RealOf<V>>& rules, std::int64_t d, V* next, V* scratch) {
    if (rules.projection == Projection::box) {
        for (std::int64_t i = 0; i < d; ++i)
            next[i] = project_on_interval(next[i], rules.low[i], rules.high[i]);
    } else if (rules.projection == Projection::ball) {
        for (std::int64_t i = 0; i < d; ++i)
            scratch[i] = next[i] - rules.center[i];
        const auto ball = BallProjection<V>::of(dot(d, scratch, scratch), rules.radius);
        for (std::int64_t i = 0; i < d; ++i)
            next[i] = ball(next[i], scratch[i], rules.center[i]);
    }
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
