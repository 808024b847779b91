// Duals and second moments kept in bfloat16: rounded up or down at random, so that the mean over
// steps is the float32 and changes far below a unit in the last place are not lost.
#pragma once

#include "../core/half.hpp"
#include "../core/philox.hpp"

namespace hl {

// Words of state that is kept in bfloat16; without `rows` it has the precision of w. Element j of a
// tensor takes word j % 4 of block j / 4 in the row of its tensor and client: the low half rounds
// the dual, the high half the second moment.
struct RoundedState {
    const std::uint64_t* rows;  // (tensors, clients)
    std::uint64_t seed;
    std::int64_t step;
};

inline namespace HL_ISA_NAMESPACE {

template <class U>
HL_INLINE PhiloxBlock<U> rounding_words(const RoundedState& state, std::uint64_t row, U block) {
    const std::uint32_t stream = static_cast<std::uint32_t>(Stream::rounding);
    const PhiloxBlock<U> counter{{U{} + static_cast<std::uint32_t>(state.step),
                                  U{} + counter_word_1(state.step, stream), U{} + row, block}};
    return philox4x32(counter, philox_key(state.seed));
}

// `noise` is uniform below 2^16. The last interval before infinity is cut off, so that no finite
// number becomes infinite; infinities stay, and so does NaN, which arithmetic returns quiet.
HL_INLINE std::uint16_t float_to_bf16_at_random(float value, std::uint32_t noise) {
    constexpr std::uint32_t twice_largest = 0xfefe0000u;  // of the bits of bfloat16's largest
    const std::uint32_t bits = as_words(value);
    const std::uint32_t added = bits + bits < twice_largest ? noise : 0u;
    return static_cast<std::uint16_t>((bits + added) >> 16);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
