// How drivers cut their work.
#pragma once

#include <cstdint>

#include "config.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

HL_INLINE std::int64_t smaller(std::int64_t a, std::int64_t b) {
    return a < b ? a : b;
}

HL_INLINE std::int64_t larger(std::int64_t a, std::int64_t b) {
    return a > b ? a : b;
}

// Where the block of steps that starts at `step` ends: a few thousand coordinate updates later, so
// that an interrupt is seen soon, and before the step's low counter word wraps.
HL_INLINE std::int64_t block_end(std::int64_t step, std::int64_t end, std::int64_t step_cost) {
    constexpr std::int64_t block_cost = 100000;
    const std::int64_t wrap = ((step >> 32) + 1) << 32;
    return smaller(smaller(step + 1 + block_cost / (step_cost + 1), end), wrap);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
