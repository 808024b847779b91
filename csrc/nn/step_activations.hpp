// Activations and their slopes. A slope is written in terms of the argument x and the value y, and
// reads only y where it can: then nothing but the output has to be kept for the backward pass.
#pragma once

#include "../core/special.hpp"
#include "program.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

template <NnActivation kind>
struct Activation;

template <>
struct Activation<NnActivation::identity> {
    template <class V>
    static HL_MEMBER V value(V x) {
        return x;
    }
    template <class V>
    static HL_MEMBER V slope(V, V) {
        return broadcast<V>(1);
    }
};

template <>
struct Activation<NnActivation::relu> {
    template <class V>
    static HL_MEMBER V value(V x) {
        return x < V{} ? V{} : x;
    }
    template <class V>
    static HL_MEMBER V slope(V, V y) {
        return y > V{} ? broadcast<V>(1) : V{};
    }
};

template <>
struct Activation<NnActivation::elu> {
    template <class V>
    static HL_MEMBER V value(V x) {
        const V low = broadcast<V>(-exp_bound<V>);
        const V negative = x > V{} ? V{} : x;
        const V curve = expm1_bounded(V(negative < low ? low : negative));
        return x > V{} ? x : curve;
    }
    template <class V>
    static HL_MEMBER V slope(V, V y) {
        const RealOf<V> one = 1;
        return y > V{} ? broadcast<V>(1) : V(y + one);
    }
};

// x / (1 + exp(-x)); -0 where the exponential would overflow.
template <>
struct Activation<NnActivation::silu> {
    template <class V>
    static HL_MEMBER V value(V x) {
        const RealOf<V> one = 1;
        const V e = exp_bounded(V(-clamp(x, exp_bound<V>)));
        return x < broadcast<V>(-exp_bound<V>) ? V(-V{}) : V(x / (one + e));
    }
    template <class V>
    static HL_MEMBER V slope(V x, V) {
        const RealOf<V> one = 1;
        const V e = exp_bounded(V(-clamp(x, exp_bound<V>)));
        const V s = one / (one + e);
        const V slope = s * (one + x * (one - s));
        return x < broadcast<V>(-exp_bound<V>) ? V(-V{}) : slope;
    }
};

// x Phi(x), with the slope Phi(x) + x phi(x).
template <>
struct Activation<NnActivation::gelu> {
    template <class V>
    static constexpr RealOf<V> bound = is_single<V> ? RealOf<V>(12.5) : RealOf<V>(37);

    template <class V>
    static HL_MEMBER V value(V x) {
        V density, distribution;
        normal_law(x, density, distribution);
        return x < broadcast<V>(-bound<V>) ? V(-V{}) : V(x * distribution);
    }
    template <class V>
    static HL_MEMBER V slope(V x, V) {
        V density, distribution;
        normal_law(x, density, distribution);
        const V inside = distribution + clamp(x, bound<V>) * density;
        return x < broadcast<V>(-bound<V>) ? V(-V{}) : inside;
    }
};

template <>
struct Activation<NnActivation::tanh> {
    template <class V>
    static HL_MEMBER V value(V x) {
        return hyperbolic_tangent(x);
    }
    template <class V>
    static HL_MEMBER V slope(V, V y) {
        const RealOf<V> one = 1;
        return one - y * y;
    }
};

template <>
struct Activation<NnActivation::sigmoid> {
    template <class V>
    static HL_MEMBER V value(V x) {
        return sigmoid(x);
    }
    template <class V>
    static HL_MEMBER V slope(V, V y) {
        const RealOf<V> one = 1;
        return y * (one - y);
    }
};

// log(1 + exp(x)), with the slope 1 - exp(-y).
template <>
struct Activation<NnActivation::softplus> {
    template <class V>
    static HL_MEMBER V value(V x) {
        return softplus(x);
    }
    template <class V>
    static HL_MEMBER V slope(V, V y) {
        return -expm1_bounded(V(-clamp(y, exp_bound<V>)));
    }
};

constexpr bool slope_reads_argument(NnActivation kind) {
    return kind == NnActivation::silu || kind == NnActivation::gelu;
}

// use(Activation<kind>{}).
template <class Use>
HL_INLINE void with_activation(NnActivation kind, const Use& use) {
    switch (kind) {
        case NnActivation::identity:
            use(Activation<NnActivation::identity>{});
            break;
        case NnActivation::relu:
            use(Activation<NnActivation::relu>{});
            break;
        case NnActivation::elu:
            use(Activation<NnActivation::elu>{});
            break;
        case NnActivation::silu:
            use(Activation<NnActivation::silu>{});
            break;
        case NnActivation::gelu:
            use(Activation<NnActivation::gelu>{});
            break;
        case NnActivation::tanh:
            use(Activation<NnActivation::tanh>{});
            break;
        case NnActivation::sigmoid:
            use(Activation<NnActivation::sigmoid>{});
            break;
        case NnActivation::softplus:
            use(Activation<NnActivation::softplus>{});
            break;
    }
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
