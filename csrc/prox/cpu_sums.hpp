// Sums of rows in strands, for the CPU.
#pragma once

#include "cpu.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

constexpr int wide_lanes = LaneTraits<f64v>::lanes;
constexpr int wide_packs = strands / wide_lanes;

// The strands of one sum; pack i holds strands [i wide_lanes, (i + 1) wide_lanes).
struct Strands {
    f64v pack[wide_packs];

    HL_MEMBER static Strands zeros() {
        Strands s;
        for (int i = 0; i < wide_packs; ++i)
            s.pack[i] = f64v{};
        return s;
    }

    // The tree: strand k + 16 to strand k, then k + 8 to k, ...
    template <class Combine>
    HL_MEMBER double fold(const Combine& combine) const {
        f64v part[wide_packs];
        for (int i = 0; i < wide_packs; ++i)
            part[i] = pack[i];
        for (int half = wide_packs / 2; half > 0; half /= 2)
            for (int i = 0; i < half; ++i)
                part[i] = combine(part[i], part[i + half]);
        double lane[wide_lanes];
        store(lane, part[0]);
        for (int half = wide_lanes / 2; half > 0; half /= 2)
            for (int i = 0; i < half; ++i)
                lane[i] = combine(lane[i], lane[i + half]);
        return lane[0];
    }

    HL_MEMBER double sum() const {
        return fold([](auto a, auto b) { return decltype(a)(a + b); });
    }
    HL_MEMBER double largest() const {
        return fold([](auto a, auto b) { return decltype(a)(a < b ? b : a); });
    }
};

// The same tree over the lanes of `wide_lanes` packs at once; lane i of the result is of packs[i].
HL_INLINE f64v fold_lanes(f64v* packs) {
#if defined(HL_ISA_V4)
    for (int i = 0; i < 4; ++i) {
        const f64v a = packs[i], b = packs[i + 4];
        packs[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +
                   __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
    }
    for (int i = 0; i < 2; ++i) {
        const f64v a = packs[i], b = packs[i + 2];
        packs[i] = __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13) +
                   __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
    }
#elif defined(HL_ISA_V3)
    for (int i = 0; i < 2; ++i) {
        const f64v a = packs[i], b = packs[i + 2];
        packs[i] =
            __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
    }
#endif
    return unpack_low(packs[0], packs[1]) + unpack_high(packs[0], packs[1]);
}

constexpr double strand_numbers[strands] = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
    16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
};

// Which lanes of pack i belong to the first `count` strands.
HL_INLINE auto first_lanes(int i, std::int64_t count) {
    return load<f64v>(strand_numbers + i * wide_lanes) < static_cast<double>(count);
}

// Calls body(pack number, elements in double, mask of those that exist) over a row.
template <class T, class Body>
HL_INLINE void over_strands(const T* x, std::int64_t count, const Body& body) {
    std::int64_t j = 0;
    for (; j + strands <= count; j += strands)
        for (int i = 0; i < wide_packs; ++i)
            body(i, load_widened(x + j + i * wide_lanes));
    if (j == count) return;
    T rest[strands] = {};
    for (std::int64_t k = j; k < count; ++k)
        rest[k - j] = x[k];
    for (int i = 0; i * wide_lanes < count - j; ++i)  // packs without elements would add nothing
        body(i, load_widened(rest + i * wide_lanes), first_lanes(i, count - j));
}

// Sum over the row of f(element).
template <class T, class F>
HL_INLINE double sum_over(const T* x, std::int64_t count, const F& f) {
    Strands s = Strands::zeros();
    over_strands(x, count, [&](int i, f64v y, auto... mask) {
        const f64v value = f(y);
        if constexpr (sizeof...(mask) == 0)
            s.pack[i] += value;
        else
            s.pack[i] += ((mask ? value : f64v{}), ...);
    });
    return s.sum();
}

template <class T>
HL_INLINE double largest_magnitude(const T* x, std::int64_t count) {
    Strands s = Strands::zeros();
    over_strands(x, count, [&](int i, f64v y, auto...) {  // the zeros beyond the end do no harm
        const f64v a = absolute(y);
        s.pack[i] = s.pack[i] < a ? a : s.pack[i];
    });
    return s.largest();
}

// Sum of squares of at most one element a strand, and by the same tree: what the empty strands
// would add is left out.
template <class T, class Change>
HL_INLINE double short_sum_of_squares(const T* x, std::int64_t count, const Change& change) {
    double sum[strands];
    for (std::int64_t k = 0; k < count; ++k) {
        const double z = change(static_cast<double>(x[k]));
        sum[k] = z * z;
    }
    std::int64_t left = count;
    for (std::int64_t half = strands / 2; half > 0; half /= 2) {
        for (std::int64_t k = 0; k + half < left; ++k)
            sum[k] += sum[k + half];
        left = left < half ? left : half;
    }
    return sum[0];
}

// Euclidean norm, safe against overflow and underflow.
template <class T, class Change>
HL_INLINE double norm_of(const T* x, std::int64_t count, const Change& change) {
    const double sum = count > 0 && count <= strands ? short_sum_of_squares(x, count, change)
                                                     : sum_over(x, count, [&](f64v y) {
                                                           const f64v z = change(y);
                                                           return f64v(z * z);
                                                       });
    const auto root = [](double value) { return square_root(value); };
    if (HL_LIKELY(squares_are_safe(sum)) || sum != sum) return root(sum);
    const double scale = largest_magnitude(x, count);
    if (scale == 0.0) return 0.0;
    const double scaled = sum_over(x, count, [&](f64v y) {
        const f64v z = change(y) / scale;
        return f64v(z * z);
    });
    return scale * root(scaled);
}

// out = f(element), computed in double.
template <class T, class F>
HL_INLINE void map_row(const T* x, std::int64_t count, T* out, const F& f) {
    std::int64_t j = 0;
    for (; j + wide_lanes <= count; j += wide_lanes)
        store_narrowed(out + j, f(load_widened(x + j)));
    for (; j < count; ++j)
        out[j] = static_cast<T>(f(static_cast<double>(x[j])));
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
