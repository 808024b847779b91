// What the grid code of networks shares: activations by number, element and column loops.
#pragma once

#include "cuda.hpp"
#include "pass.hpp"
#include "step_activations.hpp"

#include "../core/cuda_device.cuh"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

constexpr int nn_threads = 256;

template <class T>
HL_DEVICE T activate(NnActivation kind, T x) {
    switch (kind) {
        case NnActivation::identity:
            break;
        case NnActivation::relu:
            return Activation<NnActivation::relu>::value(x);
        case NnActivation::elu:
            return Activation<NnActivation::elu>::value(x);
        case NnActivation::silu:
            return Activation<NnActivation::silu>::value(x);
        case NnActivation::gelu:
            return Activation<NnActivation::gelu>::value(x);
        case NnActivation::tanh:
            return Activation<NnActivation::tanh>::value(x);
        case NnActivation::sigmoid:
            return Activation<NnActivation::sigmoid>::value(x);
        case NnActivation::softplus:
            return Activation<NnActivation::softplus>::value(x);
    }
    return x;
}

// f' from the argument or the value, whichever slope_reads_argument names.
template <class T>
HL_DEVICE T activation_slope(NnActivation kind, T s) {
    switch (kind) {
        case NnActivation::identity:
            break;
        case NnActivation::relu:
            return Activation<NnActivation::relu>::slope(s, s);
        case NnActivation::elu:
            return Activation<NnActivation::elu>::slope(s, s);
        case NnActivation::silu:
            return Activation<NnActivation::silu>::slope(s, s);
        case NnActivation::gelu:
            return Activation<NnActivation::gelu>::slope(s, s);
        case NnActivation::tanh:
            return Activation<NnActivation::tanh>::slope(s, s);
        case NnActivation::sigmoid:
            return Activation<NnActivation::sigmoid>::slope(s, s);
        case NnActivation::softplus:
            return Activation<NnActivation::softplus>::slope(s, s);
    }
    return T(1);
}

template <class T>
HL_DEVICE void put(T* target, bool adds, T value) {
    *target = adds ? *target + value : value;
}

// Each instruction's passes, defined in cuda_<what>.cu.
#define HL_NN_CUDA_PASSES(name)                                                              \
    Status cuda_##name##_forward(const NnPass<float>&, const NnInstruction&, std::int64_t,   \
                                 const CudaCall&);                                           \
    Status cuda_##name##_forward(const NnPass<double>&, const NnInstruction&, std::int64_t,  \
                                 const CudaCall&);                                           \
    Status cuda_##name##_backward(const NnPass<float>&, const NnInstruction&, std::int64_t,  \
                                  const CudaCall&);                                          \
    Status cuda_##name##_backward(const NnPass<double>&, const NnInstruction&, std::int64_t, \
                                  const CudaCall&);

HL_NN_CUDA_PASSES(dense)
HL_NN_CUDA_PASSES(sparse_dense)
HL_NN_CUDA_PASSES(activation)
HL_NN_CUDA_PASSES(batch_norm)
HL_NN_CUDA_PASSES(layer_norm)
HL_NN_CUDA_PASSES(dropout)
HL_NN_CUDA_PASSES(embedding)
HL_NN_CUDA_PASSES(time_embedding)
#undef HL_NN_CUDA_PASSES

#define HL_NN_DEFINE_CUDA_PASSES(name, room)                                           \
    Status cuda_##name##_forward(const NnPass<float>& pass, const NnInstruction& it,   \
                                 std::int64_t n, const CudaCall& call) {               \
        return room::forward(pass, it, n, call);                                       \
    }                                                                                  \
    Status cuda_##name##_forward(const NnPass<double>& pass, const NnInstruction& it,  \
                                 std::int64_t n, const CudaCall& call) {               \
        return room::forward(pass, it, n, call);                                       \
    }                                                                                  \
    Status cuda_##name##_backward(const NnPass<float>& pass, const NnInstruction& it,  \
                                  std::int64_t n, const CudaCall& call) {              \
        return room::backward(pass, it, n, call);                                      \
    }                                                                                  \
    Status cuda_##name##_backward(const NnPass<double>& pass, const NnInstruction& it, \
                                  std::int64_t n, const CudaCall& call) {              \
        return room::backward(pass, it, n, call);                                      \
    }

// f(y + bias + addend) in place; and back: the slope, the addend's share and the sums of the bias.
Status cuda_finish(const NnPass<float>&, const NnInstruction&, const CudaCall&);
Status cuda_finish(const NnPass<double>&, const NnInstruction&, const CudaCall&);
Status cuda_unfinish(const NnPass<float>&, const NnInstruction&, const NnDuty&, const CudaCall&);
Status cuda_unfinish(const NnPass<double>&, const NnInstruction&, const NnDuty&, const CudaCall&);

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
