// What the forward and the backward pass of the tile executor share.
#pragma once

#include "../core/special.hpp"
#include "step_activations.hpp"
#include "step_layers.hpp"
#include "tile.hpp"
#include "tile_product.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// Some columns of a slot; stride 0 when each column is one value for all rows.
template <class T>
struct TileColumns {
    T* data;
    std::int64_t stride;
};

template <class T>
HL_INLINE TileColumns<T> columns_of(const NnTile<T>& tile, const NnOperand& operand) {
    if (operand.slot < 0) return {nullptr, 0};
    const std::int64_t stride =
        tile.slot_strides == nullptr ? tile.stride : tile.slot_strides[operand.slot];
    return {tile.slots[operand.slot] + operand.begin * (stride == 0 ? 1 : stride), stride};
}

template <class T>
HL_INLINE void add_columns(T* out, const TileColumns<T>& x, std::int64_t width,
                           std::int64_t stride) {
    using V = typename PackOf<T>::Type;
    for (std::int64_t j = 0; j < width; ++j) {
        const T* const more = x.data + j * (x.stride == 0 ? 1 : stride);
        for (std::int64_t r = 0; r < stride; r += LaneTraits<V>::lanes) {
            const V added = x.stride == 0 ? broadcast<V>(more[0]) : load<V>(more + r);
            store(out + j * stride + r, V(load<V>(out + j * stride + r) + added));
        }
    }
}

template <class T>
HL_INLINE void copy_span(const T* x, T* y, std::int64_t count) {
    for (std::int64_t k = 0; k < count; ++k)
        y[k] = x[k];
}

// y = f(x) over values that lie one after the other, a multiple of 16 of them.
template <class T>
HL_NOINLINE static void activate_span(NnActivation f, const T* x, T* y, std::int64_t count) {
    using V = typename PackOf<T>::Type;
    if (f == NnActivation::identity) {
        if (x != y) copy_span(x, y, count);
        return;
    }
    with_activation(f, [&](auto activation) {
        for (std::int64_t k = 0; k < count; k += LaneTraits<V>::lanes)
            store(y + k, activation.value(load<V>(x + k)));
    });
}

// Mean and 1 / sqrt(variance + eps) of each lane over the columns of a slot.
template <class V>
struct TileMoments {
    V mean, inverse;
};

template <class V>
HL_INLINE TileMoments<V> layer_moments(const RealOf<V>* x, std::int64_t stride, std::int64_t width,
                                       RealOf<V> eps) {
    const RealOf<V> one = 1, count = static_cast<RealOf<V>>(width);
    V sum{};
    for (std::int64_t j = 0; j < width; ++j)
        sum += load<V>(x + j * stride);
    const V mean = sum / count;
    V squares{};
    for (std::int64_t j = 0; j < width; ++j) {
        const V centred = load<V>(x + j * stride) - mean;
        squares += centred * centred;
    }
    return {mean, one / square_root(V(squares / count + eps))};
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
