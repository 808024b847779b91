// What the layers of every driver compute of one element: frequencies of time embeddings, masks of
// dropout, transforms of counts.
#pragma once

#include "../core/philox.hpp"
#include "../core/special.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// f_j = 10000^(-j / (n - 1)) of n frequencies.
HL_INLINE double time_frequency(std::int64_t j, std::int64_t n) {
    constexpr double log_10000 = 0x1.26bb1bbb55516p+3;
    if (j == 0) return 1.0;
    return exp_bounded(-log_10000 * static_cast<double>(j) / static_cast<double>(n - 1));
}

// Element (row, j) is kept when word j % 4 of the row's block j / 4 is at least p 2^32. The layers'
// numbers take the upper bits of the block.
HL_INLINE std::uint32_t dropout_block(std::int64_t layer, std::int64_t column) {
    constexpr int layer_shift = 20;
    return static_cast<std::uint32_t>((static_cast<std::uint64_t>(layer) << layer_shift) +
                                      static_cast<std::uint64_t>(column / 4));
}

HL_INLINE std::uint64_t dropout_threshold(double p) {
    return static_cast<std::uint64_t>(p * 0x1p32);
}

// The words of columns column .. column + 3, a multiple of 4.
HL_INLINE PhiloxBlock<std::uint64_t> dropout_words(std::int64_t layer, std::int64_t row,
                                                   std::int64_t step, std::int64_t column,
                                                   PhiloxKey key) {
    return philox4x32(
        PhiloxBlock<std::uint64_t>{
            {static_cast<std::uint32_t>(step),
             counter_word_1(step, static_cast<std::uint32_t>(Stream::dropout)),
             static_cast<std::uint32_t>(row), dropout_block(layer, column)}},
        key);
}

// NnSparse::transform of a stored value whose row sums to `total`.
template <class V>
HL_INLINE V transformed(V value, RealOf<V> total, std::int64_t transform) {
    if (transform == 2 || transform == 3) value = value / total;
    if (transform == 1 || transform == 3) value = log1p(value);
    if (transform == 4) value = value > V{} ? broadcast<V>(1) : V{};
    return value;
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
