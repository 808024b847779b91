// The product of the tile executor: out[o, r] = bias[o] + sum_i w[o, i] x[i, r] + addend[o, r], by
// blocks whose sums stay in registers.
#pragma once

#include "tile_transpose.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// Strides count elements. x, addend and out have their rows side by side.
template <class T>
struct TileProduct {
    const T* weights;  // w[o, i] at o * weight_stride + i * inner_stride
    std::int64_t weight_stride, inner_stride;
    const T* x;
    std::int64_t x_stride;
    std::int64_t inner;
    const T* bias;    // may be null
    const T* addend;  // may be null; with addend_stride 0 one value for each o
    std::int64_t addend_stride;
    T* out;
    std::int64_t out_stride;
};

template <int outs, int packs, class T>
HL_INLINE void product_block(const TileProduct<T>& p, std::int64_t o, std::int64_t r) {
    using V = typename PackOf<T>::Type;
    constexpr int lanes = LaneTraits<V>::lanes;
    V sums[outs][packs];
#pragma GCC unroll 16
    for (int k = 0; k < outs; ++k) {
        const V start = broadcast<V>(p.bias == nullptr ? T(0) : p.bias[o + k]);
#pragma GCC unroll 16
        for (int q = 0; q < packs; ++q)
            sums[k][q] = start;
    }
    const T* w = p.weights + o * p.weight_stride;
    const T* x = p.x + r;
    for (std::int64_t i = 0; i < p.inner; ++i) {
        V column[packs];
#pragma GCC unroll 16
        for (int q = 0; q < packs; ++q)
            column[q] = load<V>(x + q * lanes);
#pragma GCC unroll 16
        for (int k = 0; k < outs; ++k) {
            const V weight = broadcast<V>(w[k * p.weight_stride]);
#pragma GCC unroll 16
            for (int q = 0; q < packs; ++q)
                sums[k][q] = multiply_add(weight, column[q], sums[k][q]);
        }
        w += p.inner_stride;
        x += p.x_stride;
    }
#pragma GCC unroll 16
    for (int k = 0; k < outs; ++k) {
        T* const out = p.out + (o + k) * p.out_stride + r;
        const T* const addend =
            p.addend == nullptr ? nullptr
                                : p.addend + (o + k) * (p.addend_stride == 0 ? 1 : p.addend_stride);
#pragma GCC unroll 16
        for (int q = 0; q < packs; ++q) {
            V y = sums[k][q];
            if (p.addend != nullptr) {
                y += p.addend_stride == 0 ? broadcast<V>(addend[0])
                                          : load<V>(addend + r + q * lanes);
            }
            store(out + q * lanes, y);
        }
    }
}

// Outputs [o, o + outs) of all rows.
template <int outs, int packs, class T>
HL_NOINLINE static void product_panel(const TileProduct<T>& p, std::int64_t o, std::int64_t rows) {
    constexpr std::int64_t width = packs * LaneTraits<typename PackOf<T>::Type>::lanes;
    for (std::int64_t r = 0; r < rows; r += width)
        product_block<outs, packs>(p, o, r);
}

// Registers for the sums: 24 of the 32 that AVX-512 has, 12 of 16 elsewhere.
#if defined(HL_ISA_V4)
constexpr int tile_sums = 24;
#else
constexpr int tile_sums = 12;
#endif

template <int packs, class T, class Finish>
HL_INLINE void product_groups(const TileProduct<T>& p, std::int64_t outputs, std::int64_t rows,
                              const Finish& finish) {
    constexpr int group = tile_sums / packs > 12 ? 12 : tile_sums / packs;
    std::int64_t o = 0;
    const auto advance = [&](std::int64_t count) {
        finish(o, count);
        o += count;
    };
    while (o + group <= outputs) {
        product_panel<group, packs>(p, o, rows);
        advance(group);
    }
    if constexpr (group > 6) {
        if (o + 6 <= outputs) {
            product_panel<6, packs>(p, o, rows);
            advance(6);
        }
    }
    if constexpr (group > 4) {
        if (o + 4 <= outputs) {
            product_panel<4, packs>(p, o, rows);
            advance(4);
        }
    }
    if (o + 2 <= outputs) {
        product_panel<2, packs>(p, o, rows);
        advance(2);
    }
    if (o < outputs) {
        product_panel<1, packs>(p, o, rows);
        advance(1);
    }
}

// `rows` is a multiple of 16. finish(o, count) is called once outputs [o, o + count) are there.
template <class T, class Finish>
HL_INLINE void tile_product(const TileProduct<T>& p, std::int64_t outputs, std::int64_t rows,
                            const Finish& finish) {
#if defined(HL_ISA_V4)
    constexpr std::int64_t lanes = LaneTraits<typename PackOf<T>::Type>::lanes;
    if (rows % (4 * lanes) == 0) return product_groups<4>(p, outputs, rows, finish);
    if constexpr (lanes == 16) {
        if (rows % (2 * lanes) != 0) return product_groups<1>(p, outputs, rows, finish);
    }
#endif
    product_groups<2>(p, outputs, rows, finish);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
