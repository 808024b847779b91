// Packs from and to memory: in another precision, row by row, and sums of floats in double.
#pragma once

#include <cstdint>

#include "pack.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

HL_INLINE void accumulate(double* sums, float x) {
    *sums += static_cast<double>(x);
}
HL_INLINE void accumulate(double* sums, double x) {
    *sums += x;
}

#if !defined(__CUDACC__)

// Half a pack of floats in double. Compilers convert in pieces of 64 bits, hence the intrinsics.
HL_INLINE f64v load_widened(const float* source) {
#if defined(HL_ISA_V4)
    return (f64v)_mm512_cvtps_pd(_mm256_loadu_ps(source));
#elif defined(HL_ISA_V3)
    return (f64v)_mm256_cvtps_pd(_mm_loadu_ps(source));
#else
    typedef float Half __attribute__((vector_size(HL_LANE_BYTES / 2)));
    return __builtin_convertvector(load<Half>(source), f64v);
#endif
}

HL_INLINE f64v load_widened(const double* source) {
    return load<f64v>(source);
}

HL_INLINE void store_narrowed(float* target, f64v value) {
#if defined(HL_ISA_V4)
    _mm256_storeu_ps(target, _mm512_cvtpd_ps((__m512d)value));
#elif defined(HL_ISA_V3)
    _mm_storeu_ps(target, _mm256_cvtpd_ps((__m256d)value));
#else
    for (int i = 0; i < LaneTraits<f64v>::lanes; ++i)
        target[i] = static_cast<float>(value[i]);
#endif
}

HL_INLINE void store_narrowed(double* target, f64v value) {
    store(target, value);
}

// sums[lane] += x[0][lane], then x[stride][lane], ... in double: `count` packs, one after the
// other.
template <int count>
HL_INLINE void accumulate(double* sums, const f32v* x, std::int64_t stride) {
    constexpr int half = LaneTraits<f64v>::lanes;
    f64v* const target = reinterpret_cast<f64v*>(sums);
    f64v low = target[0], high = target[1];
    for (int k = 0; k < count; ++k) {
        const float* source = reinterpret_cast<const float*>(x + k * stride);
        low += load_widened(source);
        high += load_widened(source + half);
    }
    target[0] = low;
    target[1] = high;
}

template <int count>
HL_INLINE void accumulate(double* sums, const f64v* x, std::int64_t stride) {
    f64v total = *reinterpret_cast<const f64v*>(sums);
    for (int k = 0; k < count; ++k)
        total += x[k * stride];
    *reinterpret_cast<f64v*>(sums) = total;
}

// Within each 128-bit part: the low (high) halves of a and b, interleaved by 32 or by 64 bits.
HL_INLINE f32v unpack_low(f32v a, f32v b) {
#if defined(HL_ISA_V4)
    return (f32v)_mm512_unpacklo_ps((__m512)a, (__m512)b);
#elif defined(HL_ISA_V3)
    return (f32v)_mm256_unpacklo_ps((__m256)a, (__m256)b);
#else
    return f32v{a[0], b[0], a[1], b[1]};
#endif
}

HL_INLINE f32v unpack_high(f32v a, f32v b) {
#if defined(HL_ISA_V4)
    return (f32v)_mm512_unpackhi_ps((__m512)a, (__m512)b);
#elif defined(HL_ISA_V3)
    return (f32v)_mm256_unpackhi_ps((__m256)a, (__m256)b);
#else
    return f32v{a[2], b[2], a[3], b[3]};
#endif
}

HL_INLINE f64v unpack_low(f64v a, f64v b) {
#if defined(HL_ISA_V4)
    return (f64v)_mm512_unpacklo_pd((__m512d)a, (__m512d)b);
#elif defined(HL_ISA_V3)
    return (f64v)_mm256_unpacklo_pd((__m256d)a, (__m256d)b);
#else
    return f64v{a[0], b[0]};
#endif
}

HL_INLINE f64v unpack_high(f64v a, f64v b) {
#if defined(HL_ISA_V4)
    return (f64v)_mm512_unpackhi_pd((__m512d)a, (__m512d)b);
#elif defined(HL_ISA_V3)
    return (f64v)_mm256_unpackhi_pd((__m256d)a, (__m256d)b);
#else
    return f64v{a[1], b[1]};
#endif
}

// 16 bytes at `offset` of rows[first], rows[first + stride], ... side by side in one pack.
template <class V>
HL_INLINE V load_parts(const typename LaneTraits<V>::Real* const* rows, std::int64_t offset,
                       int stride) {
#if defined(HL_ISA_V4)
    const auto part = [&](int i) {
        return _mm_loadu_ps(reinterpret_cast<const float*>(rows[i * stride] + offset));
    };
    __m512 pack = _mm512_castps128_ps512(part(0));
    pack = _mm512_insertf32x4(pack, part(1), 1);
    pack = _mm512_insertf32x4(pack, part(2), 2);
    return (V)_mm512_insertf32x4(pack, part(3), 3);
#elif defined(HL_ISA_V3)
    const auto part = [&](int i) {
        return _mm_loadu_ps(reinterpret_cast<const float*>(rows[i * stride] + offset));
    };
    return (V)_mm256_insertf128_ps(_mm256_castps128_ps256(part(0)), part(1), 1);
#else
    static_cast<void>(stride);
    return load<V>(rows[0] + offset);
#endif
}

// Four columns of one row for each lane, from rows[lane] + offset, as four packs.
HL_INLINE void transpose_columns(const float* const* rows, std::int64_t offset, f32v* columns) {
    const f32v a = load_parts<f32v>(rows, offset, 4);
    const f32v b = load_parts<f32v>(rows + 1, offset, 4);
    const f32v c = load_parts<f32v>(rows + 2, offset, 4);
    const f32v d = load_parts<f32v>(rows + 3, offset, 4);
    const f64v ab_low = (f64v)unpack_low(a, b), ab_high = (f64v)unpack_high(a, b);
    const f64v cd_low = (f64v)unpack_low(c, d), cd_high = (f64v)unpack_high(c, d);
    columns[0] = (f32v)unpack_low(ab_low, cd_low);
    columns[1] = (f32v)unpack_high(ab_low, cd_low);
    columns[2] = (f32v)unpack_low(ab_high, cd_high);
    columns[3] = (f32v)unpack_high(ab_high, cd_high);
}

HL_INLINE void transpose_columns(const double* const* rows, std::int64_t offset, f64v* columns) {
    for (int half = 0; half < 4; half += 2) {
        const f64v a = load_parts<f64v>(rows, offset + half, 2);
        const f64v b = load_parts<f64v>(rows + 1, offset + half, 2);
        columns[half] = unpack_low(a, b);
        columns[half + 1] = unpack_high(a, b);
    }
}

// All `dim` columns of one row for each lane.
template <class V>
HL_INLINE void gather_columns(const typename LaneTraits<V>::Real* const* rows, std::int64_t dim,
                              V* columns) {
    if (dim < 4) {
        for (std::int64_t i = 0; i < dim; ++i) {
            for (int lane = 0; lane < LaneTraits<V>::lanes; ++lane)
                columns[i][lane] = rows[lane][i];
        }
        return;
    }
    for (std::int64_t i = 0; i + 4 <= dim; i += 4)
        transpose_columns(rows, i, columns + i);
    // What is left over, together with columns that are there already.
    if (dim % 4 != 0) transpose_columns(rows, dim - 4, columns + dim - 4);
}

// The inverse of transpose_columns: four values of each lane, lane after lane, to `target`.
HL_INLINE void store_interleaved(float* target, const f32v* values) {
    const f64v ab_low = (f64v)unpack_low(values[0], values[1]);
    const f64v ab_high = (f64v)unpack_high(values[0], values[1]);
    const f64v cd_low = (f64v)unpack_low(values[2], values[3]);
    const f64v cd_high = (f64v)unpack_high(values[2], values[3]);
    const f64v rows[4] = {unpack_low(ab_low, cd_low), unpack_high(ab_low, cd_low),
                          unpack_low(ab_high, cd_high), unpack_high(ab_high, cd_high)};
    for (int part = 0; part < HL_LANE_BYTES / 16; ++part) {
        for (int r = 0; r < 4; ++r) {
            const double pair[2] = {rows[r][2 * part], rows[r][2 * part + 1]};
            __builtin_memcpy(target + 16 * part + 4 * r, pair, 16);
        }
    }
}

HL_INLINE void store_interleaved(double* target, const f64v* values) {
    for (int half = 0; half < 4; half += 2) {
        const f64v rows[2] = {unpack_low(values[half], values[half + 1]),
                              unpack_high(values[half], values[half + 1])};
        for (int part = 0; part < HL_LANE_BYTES / 16; ++part) {
            for (int r = 0; r < 2; ++r) {
                const double pair[2] = {rows[r][2 * part], rows[r][2 * part + 1]};
                __builtin_memcpy(target + 8 * part + 4 * r + half, pair, 16);
            }
        }
    }
}

#endif  // !__CUDACC__

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
