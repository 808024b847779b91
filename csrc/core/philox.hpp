// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC
// 2011) and the counter map that all families share:
//     key     = (seed low, seed high)
//     counter = (step low, step bits 32..47 | stream << 16, row, block)
// Block b holds the four words of coordinates 4b .. 4b+3. A row is a chain, cell, trajectory...
//
// Words live in 64-bit lanes of which only the low half counts: the widening multiply reads just
// that half, so nothing has to be masked between rounds.
#pragma once

#include "pack.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// The purposes that random words serve; they keep draws of different kinds apart.
enum class Stream : std::uint32_t {
    noise = 0,
    features = 1,
    labels = 2,
    transitions = 3,
    initial_points = 4,
    row_sampling = 5,
    exchange = 6,
    permutation = 7,
    participation = 8,
    size_factors = 9,
    counts = 10,
    matching_noise = 11,
    matching_choices = 12,
    path_noise = 13,
    weights = 14,
    dropout = 15,
    user = 16,  // from here on
    rounding = 65535,
};

constexpr std::uint32_t philox_multiplier_0 = 0xD2511F53u;
constexpr std::uint32_t philox_multiplier_1 = 0xCD9E8D57u;
constexpr std::uint32_t philox_bump_0 = 0x9E3779B9u;
constexpr std::uint32_t philox_bump_1 = 0xBB67AE85u;
constexpr int philox_num_rounds = 10;

template <class U>
struct PhiloxBlock {
    U word[4];
};

struct PhiloxKey {
    std::uint32_t low, high;
};

HL_INLINE PhiloxKey philox_key(std::uint64_t seed) {
    return {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
}

// The key of round r = 0..9.
HL_INLINE PhiloxKey philox_round_key(PhiloxKey key, int r) {
    return {key.low + static_cast<std::uint32_t>(r) * philox_bump_0,
            key.high + static_cast<std::uint32_t>(r) * philox_bump_1};
}

template <class U>
HL_INLINE void philox_rounds(PhiloxBlock<U>& c, PhiloxKey key, int first_round) {
    for (int r = first_round; r < philox_num_rounds; ++r) {
        const PhiloxKey k = philox_round_key(key, r);
        const U p0 = multiply_wide(c.word[0], philox_multiplier_0);
        const U p1 = multiply_wide(c.word[2], philox_multiplier_1);
        c.word[0] = (p1 >> 32) ^ c.word[1] ^ k.low;
        c.word[2] = (p0 >> 32) ^ c.word[3] ^ k.high;
        c.word[1] = p1;
        c.word[3] = p0;
    }
}

// The whole function, on counters of any kind.
template <class U>
HL_INLINE PhiloxBlock<U> philox4x32(PhiloxBlock<U> counter, PhiloxKey key) {
    philox_rounds(counter, key, 0);
    return counter;
}

HL_INLINE std::uint32_t counter_word_1(std::int64_t step, std::uint32_t stream) {
    return static_cast<std::uint32_t>(static_cast<std::uint64_t>(step) >> 32) | (stream << 16);
}

// What the first two rounds need of a row. Round 1 multiplies the row and the step, round 2 what
// became of them, each apart from the other: everything that touches the row can be kept from step
// to step, which saves a fifth of the work. Valid while step >> 32 stays the same.
template <class U>
struct PhiloxRow {
    U low_1, high_2, low_2;
};

template <class U>
HL_INLINE PhiloxRow<U> philox_row(U row, std::int64_t step, std::uint32_t stream, PhiloxKey key) {
    const U p1 = multiply_wide(row, philox_multiplier_1);
    const U c0 = (p1 >> 32) ^ (counter_word_1(step, stream) ^ key.low);
    const U p0 = multiply_wide(c0, philox_multiplier_0);
    return {p1, p0 >> 32, p0};
}

// The block of four words at (step, block) of a prepared row.
template <class U>
HL_INLINE PhiloxBlock<U> philox_block(const PhiloxRow<U>& row, std::int64_t step,
                                      std::uint32_t block, PhiloxKey key) {
    const PhiloxKey key_2 = philox_round_key(key, 1);
    const std::uint64_t p0 = multiply_wide(static_cast<std::uint64_t>(step), philox_multiplier_0);
    const std::uint64_t c2 = (p0 >> 32) ^ block ^ key.high;
    const std::uint64_t p1 = multiply_wide(c2, philox_multiplier_1);
    PhiloxBlock<U> c;
    c.word[0] = row.low_1 ^ ((p1 >> 32) ^ key_2.low);
    c.word[1] = U{} ^ p1;
    c.word[2] = row.high_2 ^ ((p0 & 0xffffffffu) ^ key_2.high);
    c.word[3] = row.low_2;
    philox_rounds(c, key, 2);
    return c;
}

// The prepared rows of one pack V, in the lanes that its words need: float packs hold their even
// and their odd rows apart.
template <class V>
struct PackRows {
    PhiloxRow<std::uint64_t> rows;

    static HL_MEMBER PackRows prepare(std::uint64_t first_row, std::int64_t step,
                                      std::uint32_t stream, PhiloxKey key) {
        return {philox_row(first_row, step, stream, key)};
    }
};

// Four words for each row of the pack V.
template <class V>
HL_INLINE PhiloxBlock<typename LaneTraits<V>::Words> draw_words(const PackRows<V>& rows,
                                                                std::int64_t step,
                                                                std::uint32_t block,
                                                                PhiloxKey key) {
    using Words = typename LaneTraits<V>::Words;
    const PhiloxBlock<std::uint64_t> c = philox_block(rows.rows, step, block, key);
    PhiloxBlock<Words> out;
    for (int i = 0; i < 4; ++i)
        out.word[i] = static_cast<Words>(c.word[i]);
    return out;
}

#if !defined(__CUDACC__)

HL_INLINE u64v count_from(std::uint64_t first, std::uint64_t stride) {
    u64v lanes;
    for (int i = 0; i < LaneTraits<f64v>::lanes; ++i) {
        lanes[i] = first + stride * static_cast<std::uint64_t>(i);
    }
    return lanes;
}

template <>
struct PackRows<f64v> {
    PhiloxRow<u64v> rows;

    static HL_MEMBER PackRows prepare(std::uint64_t first_row, std::int64_t step,
                                      std::uint32_t stream, PhiloxKey key) {
        return {philox_row(count_from(first_row, 1), step, stream, key)};
    }
};

template <>
struct PackRows<f32v> {
    PhiloxRow<u64v> even, odd;

    static HL_MEMBER PackRows prepare(std::uint64_t first_row, std::int64_t step,
                                      std::uint32_t stream, PhiloxKey key) {
        return {philox_row(count_from(first_row, 2), step, stream, key),
                philox_row(count_from(first_row + 1, 2), step, stream, key)};
    }
};

HL_INLINE PhiloxBlock<u64v> draw_words(const PackRows<f64v>& rows, std::int64_t step,
                                       std::uint32_t block, PhiloxKey key) {
    return philox_block(rows.rows, step, block, key);
}

HL_INLINE PhiloxBlock<u32v> draw_words(const PackRows<f32v>& rows, std::int64_t step,
                                       std::uint32_t block, PhiloxKey key) {
    const PhiloxBlock<u64v> even = philox_block(rows.even, step, block, key);
    const PhiloxBlock<u64v> odd = philox_block(rows.odd, step, block, key);
    PhiloxBlock<u32v> out;
    for (int i = 0; i < 4; ++i)
        out.word[i] = interleave_words(even.word[i], odd.word[i]);
    return out;
}

#endif  // !__CUDACC__

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
