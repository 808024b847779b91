// Losses of a row x with margin m = x^T t and target y: what multiplies x in the gradient (the
// residual, dl/dm) and x x^T in the Hessian (the curvature, d2l/dm2). `shape` is the parameter of
// those losses that have one.
#pragma once

#include "../core/math.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// exp(x), x clamped to where exp_bounded holds; NaN stays NaN.
template <class V>
HL_INLINE V exp_clamped(V x) {
    const RealOf<V> limit = is_single<V> ? RealOf<V>(80) : RealOf<V>(700);
    const V bound = broadcast<V>(limit);
    x = x > bound ? bound : x;
    x = x < -bound ? V(-bound) : x;
    return exp_bounded(x);
}

// (m - y)^2 / 2.
struct LeastSquaresLoss {
    template <class V>
    static HL_MEMBER V residual(V margin, V target, RealOf<V>) {
        return margin - target;
    }
    template <class V>
    static HL_MEMBER V curvature(V, V, RealOf<V>) {
        return broadcast<V>(1);
    }
};

// log(1 + exp(m)) - y m, y in {0, 1}.
struct LogisticLoss {
    template <class V>
    static HL_MEMBER V residual(V margin, V target, RealOf<V>) {
        return sigmoid(margin) - target;
    }
    template <class V>
    static HL_MEMBER V curvature(V margin, V, RealOf<V>) {
        const RealOf<V> one = 1;
        const V s = sigmoid(margin);
        return s * (one - s);
    }
};

// Quadratic up to |m - y| = shape, linear beyond (P. J. Huber, 1964).
struct HuberLoss {
    template <class V>
    static HL_MEMBER V residual(V margin, V target, RealOf<V> shape) {
        const V bound = broadcast<V>(shape);
        const V r = margin - target;
        const V below = r > bound ? bound : r;
        return below < -bound ? V(-bound) : below;
    }
    template <class V>
    static HL_MEMBER V curvature(V margin, V target, RealOf<V> shape) {
        const V bound = broadcast<V>(shape);
        const V r = margin - target;
        const V inside = r <= bound ? broadcast<V>(1) : broadcast<V>(0);
        return r >= -bound ? inside : broadcast<V>(0);
    }
};

// max(0, 1 - y m)^2, y in {-1, 1}.
struct SquaredHingeLoss {
    template <class V>
    static HL_MEMBER V residual(V margin, V target, RealOf<V>) {
        const RealOf<V> one = 1, minus_two = -2;
        const V gap = one - target * margin;
        return gap > broadcast<V>(0) ? V((minus_two * target) * gap) : broadcast<V>(0);
    }
    template <class V>
    static HL_MEMBER V curvature(V margin, V target, RealOf<V>) {
        const RealOf<V> one = 1;
        const V gap = one - target * margin;
        return gap > broadcast<V>(0) ? broadcast<V>(2) : broadcast<V>(0);
    }
};

// log(1 + exp(shape (1 - y m))) / shape, y in {-1, 1}.
struct SoftplusHingeLoss {
    template <class V>
    static HL_MEMBER V residual(V margin, V target, RealOf<V> shape) {
        const RealOf<V> one = 1;
        return -target * sigmoid(V(shape * (one - target * margin)));
    }
    template <class V>
    static HL_MEMBER V curvature(V margin, V target, RealOf<V> shape) {
        const RealOf<V> one = 1;
        const V s = sigmoid(V(shape * (one - target * margin)));
        return shape * (s * (one - s));
    }
};

// exp(m) - y m.
struct PoissonLoss {
    template <class V>
    static HL_MEMBER V residual(V margin, V target, RealOf<V>) {
        return exp_clamped(margin) - target;
    }
    template <class V>
    static HL_MEMBER V curvature(V margin, V, RealOf<V>) {
        return exp_clamped(margin);
    }
};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
