// The duals and second moments of one client in a block, wherever and however they are stored.
#pragma once

#include "../core/pack_memory.hpp"
#include "step_kernels.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

constexpr std::int64_t elements_per_block = 1 << 10;

template <class T>
HL_INLINE T* at(std::uint64_t address, std::int64_t offset) {
    return reinterpret_cast<T*>(address) + offset;
}

// Fetches the `each` bytes of every element while words are drawn.
struct Ahead {
    const char* memory;
    std::int64_t each;

    HL_MEMBER void fetch(std::int64_t j, int elements) const {
        for (std::int64_t k = 0; k < elements * each; k += 64)
            __builtin_prefetch(memory + j * each + k);
    }
};

// The words of `count` elements from `begin` on, in their order. Lanes are blocks of Philox, dealt
// out so that two stores of whole packs put the words of neighbouring blocks side by side.
HL_INLINE void draw_rounding(const RoundedState& state, std::uint64_t row, std::int64_t begin,
                             std::int64_t count, const Ahead* ahead, int streams,
                             std::uint32_t* words) {
    constexpr int lanes = LaneTraits<f64v>::lanes;
    u64v first_block;
    for (int i = 0; i < lanes; ++i) {
        const int place = i / 2 + i % 2 * (lanes / 2);
        first_block[i] = static_cast<std::uint64_t>(begin / 4 + place);
    }
    for (std::int64_t j = 0; j < count; j += 4 * lanes) {
        for (int k = 0; k < streams; ++k)
            ahead[k].fetch(j, 4 * lanes);
        const u64v block = first_block + static_cast<std::uint64_t>(j / 4);
        const PhiloxBlock<u64v> c = rounding_words(state, row, block);
        const f64v front = (f64v)interleave_words(c.word[0], c.word[1]);
        const f64v back = (f64v)interleave_words(c.word[2], c.word[3]);
        store(words + j, unpack_low(front, back));
        store(words + j + 2 * lanes, unpack_high(front, back));
    }
}

HL_INLINE void widen_block(const std::uint16_t* source, std::int64_t count, float* target) {
    for (std::int64_t j = 0; j < count; ++j)
        target[j] = bf16_to_float(source[j]);
}

// State in the precision T is used where it is; state in bfloat16 passes through buffers.
template <class T>
struct StateBlock {
    T* duals;
    T* moments;
    std::uint16_t* stored_duals;
    std::uint16_t* stored_moments;
    std::int64_t count;
    alignas(64) T dual_buffer[elements_per_block];
    alignas(64) T moment_buffer[elements_per_block];
    alignas(64) std::uint32_t words[elements_per_block];

    HL_MEMBER StateBlock(const SisaJob<T>& job, std::int64_t i, std::int64_t begin,
                         std::int64_t size)
        : stored_duals(nullptr), stored_moments(nullptr), count(size) {
        if constexpr (sizeof(T) == 4) {
            if (job.rounded.rows != nullptr) {
                read(job, i, begin);
                return;
            }
        }
        duals = at<T>(job.duals[i], begin);
        moments = job.moments != nullptr ? at<T>(job.moments[i], begin) : nullptr;
    }

    HL_MEMBER void read(const SisaJob<T>& job, std::int64_t i, std::int64_t begin) {
        duals = dual_buffer;
        moments = moment_buffer;
        stored_duals = at<std::uint16_t>(job.duals[i], begin);
        if (job.moments != nullptr) stored_moments = at<std::uint16_t>(job.moments[i], begin);
        const bool single = job.gradient_precision == Precision::f32;
        const std::int64_t size = single ? 4 : 2;
        const Ahead ahead[] = {
            {at<const char>(job.gradients[i], begin * size), size},
            {at<const char>(job.w[i / job.num_clients], begin * 4), 4},
            {reinterpret_cast<const char*>(stored_duals), 2},
            {reinterpret_cast<const char*>(stored_moments), 2},
        };
        const int streams = stored_moments != nullptr ? 4 : 3;
        draw_rounding(job.rounded, job.rounded.rows[i], begin, count, ahead, streams, words);
        widen_block(stored_duals, count, dual_buffer);
        if (stored_moments != nullptr) widen_block(stored_moments, count, moment_buffer);
    }

    // Stores what has been updated in buffers.
    HL_MEMBER void write(bool moments_too) {
        if constexpr (sizeof(T) == 4) {
            if (stored_duals == nullptr) return;
            for (std::int64_t j = 0; j < count; ++j)
                stored_duals[j] = float_to_bf16_at_random(dual_buffer[j], words[j] & 0xffffu);
            if (!moments_too) return;
            for (std::int64_t j = 0; j < count; ++j)
                stored_moments[j] = float_to_bf16_at_random(moment_buffer[j], words[j] >> 16);
        }
    }
};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
