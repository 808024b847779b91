// Proximal operators of one element: prox_{t r}(v) = argmin_x r(x) + (x - v)^2 / (2 t). The numbers
// in `c` are made from t and the parameters of r by the caller.
#pragma once

#include "../core/math.hpp"

namespace hl {

enum class ProxOperation : std::int32_t {
    soft = 0,
    elastic = 1,
    scale = 2,
    clip = 3,
    firm = 4,
    huber = 5,
    hinge = 6,
    logistic = 7,
    log_sum = 8,
};

constexpr int most_constants = 6;

inline namespace HL_ISA_NAMESPACE {

template <class V>
HL_INLINE V absolute(V v) {
    return v < RealOf<V>(0) ? V(-v) : v;
}

template <class V>
HL_INLINE V clip(V v, V low, V high) {
    const V below = v > high ? high : v;
    return below < low ? low : below;
}

// sign(v) max(|v| - k, 0).
template <class V>
HL_INLINE V soft_threshold(V v, V k) {
    return v - clip(v, V(-k), k);
}

template <class V, ProxOperation operation>
struct ElementProx;

// t lambda
template <class V>
struct ElementProx<V, ProxOperation::soft> {
    static constexpr int constants = 1;
    static HL_MEMBER V apply(V v, const V* c) { return soft_threshold(v, c[0]); }
};

// t lambda_1, 1 + t lambda_2
template <class V>
struct ElementProx<V, ProxOperation::elastic> {
    static constexpr int constants = 2;
    static HL_MEMBER V apply(V v, const V* c) { return soft_threshold(v, c[0]) / c[1]; }
};

// 1 + t lambda
template <class V>
struct ElementProx<V, ProxOperation::scale> {
    static constexpr int constants = 1;
    static HL_MEMBER V apply(V v, const V* c) { return v / c[0]; }
};

// lower and upper bound
template <class V>
struct ElementProx<V, ProxOperation::clip> {
    static constexpr int constants = 2;
    static HL_MEMBER V apply(V v, const V* c) { return clip(v, c[0], c[1]); }
};

// k, first, second, p, q, r: soft thresholding by k up to |v| = first, (|v| p - q) / r up to
// |v| = second, and v itself beyond. L0, MCP, SCAD and the capped l1 norm are of this form.
template <class V>
struct ElementProx<V, ProxOperation::firm> {
    static constexpr int constants = 6;
    static HL_MEMBER V apply(V v, const V* c) {
        const V a = absolute(v);
        const V middle = (a * c[3] - c[4]) / c[5];
        const V signed_middle = v < RealOf<V>(0) ? V(-middle) : middle;
        const V outer = a > c[2] ? v : signed_middle;
        return a <= c[1] ? soft_threshold(v, c[0]) : outer;
    }
};

// t lambda delta, 1 + t lambda, delta (1 + t lambda)
template <class V>
struct ElementProx<V, ProxOperation::huber> {
    static constexpr int constants = 3;
    static HL_MEMBER V apply(V v, const V* c) {
        return absolute(v) > c[2] ? soft_threshold(v, c[0]) : V(v / c[1]);
    }
};

// t lambda
template <class V>
struct ElementProx<V, ProxOperation::hinge> {
    static constexpr int constants = 1;
    static HL_MEMBER V apply(V v, const V* c) {
        const V one = broadcast<V>(RealOf<V>(1));
        const V moved = v + c[0];
        const V kink = moved < one ? moved : one;
        return v >= one ? v : kink;
    }
};

// t lambda, for log(1 + exp(-x)): the root of x - v - t lambda sigmoid(-x), which lies between v
// and v + t lambda, by Newton's method with bisection where that leaves the bracket. Each lane
// stops by itself, so that it does not depend on its neighbours.
template <class V>
struct ElementProx<V, ProxOperation::logistic> {
    static constexpr int constants = 1;
    static HL_MEMBER V apply(V v, const V* c) {
        using T = RealOf<V>;
        constexpr T tolerance = sizeof(T) == 4 ? T(4.8e-7) : T(9e-16);
        const V t = c[0];
        V low = v, high = v + t, last = t;
        V x = v + t * sigmoid(V(-v)) / (T(1) + T(0.25) * t);
        for (int i = 0; i < 100; ++i) {
            const V p = sigmoid(V(-x));
            const V residual = (x - v) - t * p;
            low = residual < T(0) ? x : low;
            high = residual > T(0) ? x : high;
            const V slope = T(1) + t * (p * (T(1) - p));
            const V newton = x - residual / slope;
            const V middle = low + T(0.5) * (high - low);
            const V quick = absolute(V(newton - x)) > T(0.5) * last ? middle : newton;
            const V inside = quick > high ? middle : quick;
            const V next = inside < low ? middle : inside;
            const V move = absolute(V(next - x));
            const auto moves = move > tolerance * (absolute(x) + absolute(v) / slope);
            if (!any_lane(moves)) break;
            x = moves ? next : x;
            last = moves ? move : last;
        }
        return x;
    }
};

// t lambda, epsilon, 2 sqrt(t lambda): for lambda log(1 + |x| / epsilon), the larger stationary
// point of the objective or zero, whichever is lower.
template <class V>
struct ElementProx<V, ProxOperation::log_sum> {
    static constexpr int constants = 3;
    static HL_MEMBER V apply(V v, const V* c) {
        using T = RealOf<V>;
        const V zero{};
        const V a = absolute(v);
        const V sum = a + c[1];
        const V inside = sum - c[2];
        const V root = square_root(V(inside > T(0) ? inside : zero)) * square_root(V(sum + c[2]));
        const V larger = T(0.5) * (a - c[1]) + T(0.5) * root;
        const V stationary = inside < T(0) ? zero : larger;
        const V candidate = stationary > T(0) ? stationary : zero;
        // r(x) + (x - a)^2 / 2 against r(0) + a^2 / 2, both without a^2 / 2.
        const V gain = candidate * (a - T(0.5) * candidate);
        const V cost = c[0] * log_positive(V(T(1) + candidate / c[1]));
        const V kept = gain > cost ? candidate : zero;
        const V result = v < T(0) ? V(-kept) : kept;
        return v == v ? V(result + T(0)) : v;  // no negative zeros
    }
};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
