// Which rows a mini-batch takes: a function of (seed, round, client, position) alone.
#pragma once

#include "../core/philox.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace admm {

HL_INLINE PhiloxBlock<std::uint64_t> sampling_words(PhiloxKey key, std::int64_t step,
                                                    std::int64_t client, std::int64_t block,
                                                    Stream stream) {
    const PhiloxBlock<std::uint64_t> counter = {
        {static_cast<std::uint32_t>(step), counter_word_1(step, static_cast<std::uint32_t>(stream)),
         static_cast<std::uint32_t>(client), static_cast<std::uint32_t>(block)}};
    return philox4x32(counter, key);
}

// Draw `position` of a round, uniform on [0, count), with replacement.
HL_INLINE std::int64_t sample_row(PhiloxKey key, std::int64_t round, std::int64_t client,
                                  std::int64_t position, std::int64_t count) {
    const PhiloxBlock<std::uint64_t> words =
        sampling_words(key, round, client, position >> 2, Stream::row_sampling);
    const std::uint64_t word = words.word[position & 3] & 0xffffffffu;
    return static_cast<std::int64_t>((word * static_cast<std::uint64_t>(count)) >> 32);
}

// A permutation of [0, count): a Feistel network of four rounds on just enough bits, walked until
// it falls into the range. The two halves may differ by a bit, hence the widths that swap.
struct EpochPermutation {
    std::uint64_t keys[4];
    int bits;
    std::int64_t count;

    static HL_MEMBER EpochPermutation prepare(PhiloxKey key, std::int64_t epoch,
                                              std::int64_t client, std::int64_t count) {
        EpochPermutation p{{}, 0, count};
        const PhiloxBlock<std::uint64_t> words =
            sampling_words(key, epoch, client, 0, Stream::permutation);
        for (int r = 0; r < 4; ++r)
            p.keys[r] = words.word[r] & 0xffffffffu;
        while ((std::int64_t(1) << p.bits) < count)
            ++p.bits;
        return p;
    }

    HL_MEMBER std::uint64_t shuffle(std::uint64_t x) const {
        int low = (bits + 1) / 2, high = bits - low;
        std::uint64_t left = x >> low, right = x & ((std::uint64_t(1) << low) - 1);
        for (int r = 0; r < 4; ++r) {
            std::uint64_t f = (right ^ keys[r]) * 0x9E3779B97F4A7C15u;
            f = (f ^ (f >> 32)) * 0xD6E8FEB86659FD93u;
            f = (f ^ (f >> 32)) & ((std::uint64_t(1) << high) - 1);
            const std::uint64_t next = left ^ f;
            left = right;
            right = next;
            const int width = low;
            low = high;
            high = width;
        }
        return (left << low) | right;
    }

    HL_MEMBER std::int64_t operator()(std::int64_t position) const {
        std::uint64_t x = static_cast<std::uint64_t>(position);
        do {
            x = shuffle(x);
        } while (x >= static_cast<std::uint64_t>(count));
        return static_cast<std::int64_t>(x);
    }
};

}  // namespace admm
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
