// Losses of one row with prediction z and target y: the value and its slope in z. `shape` holds the
// parameters of those losses that have some. Comparisons are written so that NaN passes through.
#pragma once

#include "../core/math.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace admm {

template <class V>
HL_INLINE V clamp(V x, RealOf<V> low, RealOf<V> high) {
    x = x > broadcast<V>(high) ? broadcast<V>(high) : x;
    return x < broadcast<V>(low) ? broadcast<V>(low) : x;
}

// exp(x), x clamped to where exp_bounded holds.
template <class V>
HL_INLINE V exp_clamped(V x) {
    const RealOf<V> limit = is_single<V> ? RealOf<V>(80) : RealOf<V>(700);
    return exp_bounded(clamp(x, -limit, limit));
}

// log(1 + exp(t)) = max(t, 0) + log(1 + exp(-|t|)).
template <class V>
HL_INLINE V softplus(V t) {
    const RealOf<V> one = 1;
    const V minus = -t;
    const V size = t < broadcast<V>(0) ? minus : t;
    const V above = t < broadcast<V>(0) ? broadcast<V>(0) : t;
    return above + log_positive(V(one + exp_clamped(V(-size))));
}

// (z - y)^2 / 2.
struct Squares {
    template <class V>
    static HL_MEMBER V value(V z, V y, const RealOf<V>*) {
        const RealOf<V> half = RealOf<V>(0.5);
        const V r = z - y;
        return half * r * r;
    }
    template <class V>
    static HL_MEMBER V slope(V z, V y, const RealOf<V>*) {
        return z - y;
    }
};

// log(1 + exp(-y z)), y in {-1, 1}.
struct Logistic {
    template <class V>
    static HL_MEMBER V value(V z, V y, const RealOf<V>*) {
        return softplus(V(-(y * z)));
    }
    template <class V>
    static HL_MEMBER V slope(V z, V y, const RealOf<V>*) {
        return -(y * sigmoid(V(-(y * z))));
    }
};

// max(0, 1 - y z)^2 / 2, y in {-1, 1}.
struct SquaredHinge {
    template <class V>
    static HL_MEMBER V gap(V z, V y) {
        const RealOf<V> one = 1;
        const V g = one - y * z;
        return g < broadcast<V>(0) ? broadcast<V>(0) : g;
    }
    template <class V>
    static HL_MEMBER V value(V z, V y, const RealOf<V>*) {
        const RealOf<V> half = RealOf<V>(0.5);
        const V g = gap(z, y);
        return half * g * g;
    }
    template <class V>
    static HL_MEMBER V slope(V z, V y, const RealOf<V>*) {
        return -(y * gap(z, y));
    }
};

// The hinge max(0, 1 - y z), quadratic over the last shape[0] before its corner.
struct HuberHinge {
    template <class V>
    static HL_MEMBER V value(V z, V y, const RealOf<V>* shape) {
        const RealOf<V> half = RealOf<V>(0.5);
        const V g = SquaredHinge::gap(z, y);
        const V inner = g > broadcast<V>(shape[0]) ? broadcast<V>(shape[0]) : g;
        return inner * (g - half * inner) / shape[0];
    }
    template <class V>
    static HL_MEMBER V slope(V z, V y, const RealOf<V>* shape) {
        return -(y * clamp(V(SquaredHinge::gap(z, y) / shape[0]), RealOf<V>(0), RealOf<V>(1)));
    }
};

// Quadratic up to |z - y| = shape[0], linear beyond (P. J. Huber, 1964).
struct Huber {
    template <class V>
    static HL_MEMBER V value(V z, V y, const RealOf<V>* shape) {
        const RealOf<V> half = RealOf<V>(0.5);
        const V r = z - y;
        const V inner = clamp(r, -shape[0], shape[0]);
        return inner * (r - half * inner);
    }
    template <class V>
    static HL_MEMBER V slope(V z, V y, const RealOf<V>* shape) {
        return clamp(V(z - y), -shape[0], shape[0]);
    }
};

// exp(z) - y z: Poisson's likelihood with the log link, without log y!.
struct Poisson {
    template <class V>
    static HL_MEMBER V value(V z, V y, const RealOf<V>*) {
        return exp_clamped(z) - y * z;
    }
    template <class V>
    static HL_MEMBER V slope(V z, V y, const RealOf<V>*) {
        return exp_clamped(z) - y;
    }
};

// The Moreau envelope, of width shape[1], of the pinball loss of the quantile shape[0].
struct Quantile {
    template <class V>
    static HL_MEMBER V pull(V z, V y, const RealOf<V>* shape) {
        const RealOf<V> one = 1;
        return clamp(V((y - z) / shape[1]), shape[0] - one, shape[0]);
    }
    template <class V>
    static HL_MEMBER V value(V z, V y, const RealOf<V>* shape) {
        const RealOf<V> half = RealOf<V>(0.5);
        const V p = pull(z, y, shape);
        return p * ((y - z) - half * shape[1] * p);
    }
    template <class V>
    static HL_MEMBER V slope(V z, V y, const RealOf<V>* shape) {
        return -pull(z, y, shape);
    }
};

}  // namespace admm
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
