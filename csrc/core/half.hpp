// The 16-bit floats: IEEE binary16 and bfloat16 as their bits, by integer arithmetic, so that every
// instruction set and device converts alike. To 16 bits: to nearest, ties to even.
#pragma once

#include "pack.hpp"

namespace hl {

// How the elements of a foreign buffer are stored.
enum class Precision : std::int32_t { f32 = 0, f64 = 1, f16 = 2, bf16 = 3 };

inline namespace HL_ISA_NAMESPACE {

HL_INLINE float bf16_to_float(std::uint16_t bits) {
    return as_real(static_cast<std::uint32_t>(bits) << 16);
}

HL_INLINE std::uint16_t float_to_bf16(float value) {
    const std::uint32_t bits = as_words(value);
    const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const std::uint32_t quiet_nan = (bits >> 16) | 0x40u;
    return static_cast<std::uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded);
}

HL_INLINE float f16_to_float(std::uint16_t bits) {
    const std::uint32_t magnitude = (bits & 0x7fffu) << 13;
    const std::uint32_t exponent = magnitude & 0x0f800000u;
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
    const std::uint32_t normal = magnitude + 0x38000000u;
    // Below the smallest normal number the mantissa counts units of 2^-24: subtract the leading
    // one that the shift put in front of it.
    const std::uint32_t tiny = as_words(as_real(magnitude + 0x38800000u) - 0x1p-14f);
    const std::uint32_t special = normal + 0x38000000u;
    return as_real((exponent == 0 ? tiny : exponent == 0x0f800000u ? special : normal) | sign);
}

HL_INLINE std::uint16_t float_to_f16(float value) {
    const std::uint32_t bits = as_words(value);
    const std::uint32_t sign = (bits >> 16) & 0x8000u;
    const std::uint32_t magnitude = bits & 0x7fffffffu;
    const std::uint32_t normal =
        (magnitude + 0xc8000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    // Adding 1/2 lets the addition itself round to units of 2^-24.
    const std::uint32_t tiny = as_words(as_real(magnitude) + 0.5f) - 0x3f000000u;
    const std::uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const std::uint32_t chosen = magnitude >= 0x47800000u  ? special
                                 : magnitude < 0x38800000u ? tiny
                                                           : normal;
    return static_cast<std::uint16_t>(chosen | sign);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
