// Packs: as many lanes as one register of this instruction-set level holds, one row in each lane.
//
// A step is a template over V. V = f32v or f64v advances a whole pack of rows; V = float or double
// advances one row (CUDA, remainders, tests). Arithmetic, comparisons and ?: are the compiler's own
// vector operators, so both read alike and round alike.
#pragma once

#include <cstdint>

#include "config.hpp"

#if !defined(__CUDACC__) && (defined(__x86_64__) || defined(__i386__))
#include <immintrin.h>
#elif !defined(__CUDACC__) && defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// A random word travels in the lane type of the reals that it will become: 32 bits wide for float;
// 64 bits wide for double, where only the low half counts.
template <class V>
struct LaneTraits;

template <>
struct LaneTraits<float> {
    using Real = float;
    using Words = std::uint32_t;
    static constexpr int lanes = 1;
};

template <>
struct LaneTraits<double> {
    using Real = double;
    using Words = std::uint64_t;
    static constexpr int lanes = 1;
};

HL_INLINE float as_real(std::uint32_t bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

HL_INLINE double as_real(std::uint64_t bits) {
    double value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

HL_INLINE std::uint32_t as_words(float value) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}

HL_INLINE std::uint64_t as_words(double value) {
    std::uint64_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
}

// The value of a signed 32-bit integer stored as a word, rounded to nearest.
HL_INLINE float signed_to_real(std::uint32_t word) {
    return static_cast<float>(static_cast<std::int32_t>(word));
}

HL_INLINE float square_root(float x) {
#if defined(__CUDA_ARCH__)
    return __fsqrt_rn(x);
#else
    return __builtin_sqrtf(x);
#endif
}

HL_INLINE double square_root(double x) {
#if defined(__CUDA_ARCH__)
    return __dsqrt_rn(x);
#else
    return __builtin_sqrt(x);
#endif
}

// a b + c, rounded once on every level but base, which has no such instruction: what uses it is of
// class B.
HL_INLINE float multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
    return __fmaf_rn(a, b, c);
#elif defined(__FMA__) || defined(__aarch64__)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

HL_INLINE double multiply_add(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
    return __fma_rn(a, b, c);
#elif defined(__FMA__) || defined(__aarch64__)
    return __builtin_fma(a, b, c);
#else
    return a * b + c;
#endif
}

// Low 32 bits of each lane times a 32-bit constant, all 64 bits of the product.
HL_INLINE std::uint64_t multiply_wide(std::uint64_t a, std::uint32_t b) {
    return (a & 0xffffffffu) * b;
}

// All lanes equal to x.
template <class V>
HL_INLINE V broadcast(typename LaneTraits<V>::Real x) {
    return x - V{};
}

template <class V>
HL_INLINE V load(const void* source) {
    V value;
    __builtin_memcpy(&value, source, sizeof value);
    return value;
}

template <class V>
HL_INLINE void store(void* target, V value) {
    __builtin_memcpy(target, &value, sizeof value);
}

HL_INLINE bool any_lane(bool mask) {
    return mask;
}
HL_INLINE bool lane_is_set(bool mask, int) {
    return mask;
}

#if !defined(__CUDACC__)

typedef float f32v __attribute__((vector_size(HL_LANE_BYTES)));
typedef double f64v __attribute__((vector_size(HL_LANE_BYTES)));
typedef std::uint32_t u32v __attribute__((vector_size(HL_LANE_BYTES)));
typedef std::uint64_t u64v __attribute__((vector_size(HL_LANE_BYTES)));
typedef std::int32_t i32v __attribute__((vector_size(HL_LANE_BYTES)));
typedef std::int64_t i64v __attribute__((vector_size(HL_LANE_BYTES)));

template <>
struct LaneTraits<f32v> {
    using Real = float;
    using Words = u32v;
    static constexpr int lanes = HL_LANE_BYTES / 4;
};

template <>
struct LaneTraits<f64v> {
    using Real = double;
    using Words = u64v;
    static constexpr int lanes = HL_LANE_BYTES / 8;
};

HL_INLINE f32v as_real(u32v bits) {
    return (f32v)bits;
}
HL_INLINE f64v as_real(u64v bits) {
    return (f64v)bits;
}
HL_INLINE u32v as_words(f32v value) {
    return (u32v)value;
}
HL_INLINE u64v as_words(f64v value) {
    return (u64v)value;
}
HL_INLINE f32v signed_to_real(u32v word) {
    return __builtin_convertvector((i32v)word, f32v);
}

HL_INLINE f32v square_root(f32v x) {
#if defined(HL_ISA_V4)
    return (f32v)_mm512_sqrt_ps((__m512)x);
#elif defined(HL_ISA_V3)
    return (f32v)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
    return (f32v)_mm_sqrt_ps((__m128)x);
#elif defined(__aarch64__)
    return (f32v)vsqrtq_f32((float32x4_t)x);
#else
    for (int i = 0; i < LaneTraits<f32v>::lanes; ++i)
        x[i] = __builtin_sqrtf(x[i]);
    return x;
#endif
}

HL_INLINE f64v square_root(f64v x) {
#if defined(HL_ISA_V4)
    return (f64v)_mm512_sqrt_pd((__m512d)x);
#elif defined(HL_ISA_V3)
    return (f64v)_mm256_sqrt_pd((__m256d)x);
#elif defined(__SSE2__)
    return (f64v)_mm_sqrt_pd((__m128d)x);
#elif defined(__aarch64__)
    return (f64v)vsqrtq_f64((float64x2_t)x);
#else
    for (int i = 0; i < LaneTraits<f64v>::lanes; ++i)
        x[i] = __builtin_sqrt(x[i]);
    return x;
#endif
}

HL_INLINE f32v multiply_add(f32v a, f32v b, f32v c) {
#if defined(HL_ISA_V4)
    return (f32v)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(HL_ISA_V3)
    return (f32v)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    return (f32v)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

HL_INLINE f64v multiply_add(f64v a, f64v b, f64v c) {
#if defined(HL_ISA_V4)
    return (f64v)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(HL_ISA_V3)
    return (f64v)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(__aarch64__)
    return (f64v)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#else
    return a * b + c;
#endif
}

// A number in all lanes, times a pack.
HL_INLINE f32v multiply_add(float a, f32v b, f32v c) {
    return multiply_add(broadcast<f32v>(a), b, c);
}
HL_INLINE f64v multiply_add(double a, f64v b, f64v c) {
    return multiply_add(broadcast<f64v>(a), b, c);
}

// Compilers do not find the widening multiply in (a & mask) * b, hence the intrinsics.
HL_INLINE u64v multiply_wide(u64v a, std::uint32_t b) {
#if defined(HL_ISA_V4)
    return (u64v)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(b));
#elif defined(HL_ISA_V3)
    return (u64v)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(b));
#elif defined(__SSE2__)
    return (u64v)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(b));
#elif defined(__ARM_NEON)
    return (u64v)vmull_n_u32(vmovn_u64((uint64x2_t)a), b);
#else
    return (a & 0xffffffffu) * b;
#endif
}

// The high half of the 64-bit product of each word and n.
HL_INLINE u64v multiply_high(u64v x, std::uint32_t n) {
    return multiply_wide(x, n) >> 32;
}

// Two packs of 64-bit lanes, whose low halves are the words of the even and of the odd rows, as one
// pack of 32-bit words in row order.
HL_INLINE u32v interleave_words(u64v even, u64v odd) {
#if defined(HL_ISA_V4)
    return (u32v)_mm512_mask_blend_epi32(0xaaaa, (__m512i)even, (__m512i)(odd << 32));
#elif defined(HL_ISA_V3)
    return (u32v)_mm256_blend_epi32((__m256i)even, (__m256i)(odd << 32), 0xaa);
#else
    return (u32v)((even & 0xffffffffu) | (odd << 32));
#endif
}

HL_INLINE u32v multiply_high(u32v x, std::uint32_t n) {
    return interleave_words(multiply_high((u64v)x, n), multiply_high((u64v)x >> 32, n));
}

// A comparison of packs; compilers disagree on the name of its 64-bit integers.
template <class Mask>
HL_INLINE bool any_lane(Mask mask) {
#if defined(HL_ISA_V4)
    if constexpr (sizeof(mask[0]) == 4) return _mm512_movepi32_mask((__m512i)mask) != 0;
    return _mm512_movepi64_mask((__m512i)mask) != 0;
#elif defined(HL_ISA_V3)
    if constexpr (sizeof(mask[0]) == 4) return _mm256_movemask_ps((__m256)mask) != 0;
    return _mm256_movemask_pd((__m256d)mask) != 0;
#elif defined(__SSE2__)
    return _mm_movemask_epi8((__m128i)mask) != 0;
#else
    bool any = false;
    for (int i = 0; i < HL_LANE_BYTES / static_cast<int>(sizeof(mask[0])); ++i)
        any |= mask[i] != 0;
    return any;
#endif
}

// Bit i is set when lane i is; for masks of 64-bit lanes.
template <class Mask>
HL_INLINE std::uint32_t lane_bits(Mask mask) {
    static_assert(sizeof(mask[0]) == 8, "64-bit lanes only");
#if defined(HL_ISA_V4)
    return _mm512_movepi64_mask((__m512i)mask);
#elif defined(HL_ISA_V3)
    return static_cast<std::uint32_t>(_mm256_movemask_pd((__m256d)mask));
#elif defined(__SSE2__)
    return static_cast<std::uint32_t>(_mm_movemask_pd((__m128d)mask));
#else
    std::uint32_t bits = 0;
    for (int i = 0; i < HL_LANE_BYTES / 8; ++i)
        bits |= mask[i] != 0 ? 1u << i : 0u;
    return bits;
#endif
}

template <class Mask>
HL_INLINE bool lane_is_set(Mask mask, int lane) {
    return mask[lane] != 0;
}

// The pack of reals T.
template <class T>
struct PackOf;

template <>
struct PackOf<float> {
    using Type = f32v;
};

template <>
struct PackOf<double> {
    using Type = f64v;
};

#endif  // !__CUDACC__

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
