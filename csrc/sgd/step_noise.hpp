// The laws of additive noise, all of mean 0 and variance 1 (a table is taken as it is). Coordinate
// i takes word i mod 4 of block i / 4 of the noise stream, whatever the law.
#pragma once

#include "../core/normal.hpp"
#include "kernels.hpp"
#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// The prepared rows of the streams that a law may draw from.
template <class V>
struct NoiseRows {
    PackRows<V> noise, labels;

    static HL_MEMBER NoiseRows prepare(std::uint64_t first_row, std::int64_t step, PhiloxKey key) {
        return {
            PackRows<V>::prepare(first_row, step, static_cast<std::uint32_t>(Stream::noise), key),
            PackRows<V>::prepare(first_row, step, static_cast<std::uint32_t>(Stream::labels), key)};
    }
};

// What the laws need beyond words, from double on.
template <class T>
struct NoiseConstants {
    T df, exponent, scale;  // of Student's t: nu, -2 / nu, sqrt((nu - 2) / nu)

    static HL_MEMBER NoiseConstants of(const SgdNoise<T>& noise) {
        if (noise.law != NoiseLaw::student_t) return {T(0), T(0), T(0)};
        const double df = noise.df;
        return {static_cast<T>(df), static_cast<T>(-2.0 / df),
                static_cast<T>(square_root((df - 2.0) / df))};
    }
};

// On (-sqrt 3, sqrt 3).
template <class V>
HL_INLINE V uniform_noise(WordsOf<V> word) {
    const RealOf<V> one = 1, root_three = static_cast<RealOf<V>>(1.7320508075688772);
    const V u = uniform<V>(word);
    return (u + u - one) * root_three;
}

template <class V>
HL_INLINE V rademacher_noise(WordsOf<V> word) {
    return flip_sign(broadcast<V>(1), word);
}

// The top bit of the word is the sign, the others make the exponential.
template <class V>
HL_INLINE V laplace_noise(WordsOf<V> word) {
    const RealOf<V> root_half = static_cast<RealOf<V>>(0.70710678118654752);
    const V exponential = -log_positive(uniform<V>(WordsOf<V>(word << 1)));
    return flip_sign(V(exponential * root_half), word);
}

// R. W. Bailey, "Polar generation of random variates with the t-distribution", 1994.
template <class V>
HL_INLINE V student_noise(const NoiseConstants<RealOf<V>>& law, WordsOf<V> radius,
                          WordsOf<V> turn) {
    const RealOf<V> one = 1;
    const V power = exp_bounded(V(law.exponent * log_positive(uniform<V>(radius))));
    V along, across;
    polar_turns(square_root(V(law.df * (power - one))), turn, along, across);
    return law.scale * along;
}

template <class V>
HL_INLINE V table_noise(const SgdNoise<RealOf<V>>& noise, WordsOf<V> word) {
    if constexpr (LaneTraits<V>::lanes == 1) {
        return noise.table[index_below(static_cast<std::uint32_t>(word), noise.table_size)];
    } else {
        V value;
        for (int lane = 0; lane < LaneTraits<V>::lanes; ++lane) {
            const std::uint32_t w = static_cast<std::uint32_t>(word[lane]);
            value[lane] = noise.table[index_below(w, noise.table_size)];
        }
        return value;
    }
}

// The noise of coordinates 4 block .. 4 block + 3.
template <class V>
HL_INLINE void draw_noise(const SgdNoise<RealOf<V>>& noise,
                          const NoiseConstants<RealOf<V>>& constants, const NoiseRows<V>& rows,
                          std::int64_t step, std::uint32_t block, PhiloxKey key, V* z) {
    if (noise.law == NoiseLaw::none) {
        for (int i = 0; i < 4; ++i)
            z[i] = broadcast<V>(0);
        return;
    }
    const PhiloxBlock<WordsOf<V>> x = draw_words(rows.noise, step, block, key);
    switch (noise.law) {
        case NoiseLaw::uniform:
            for (int i = 0; i < 4; ++i)
                z[i] = uniform_noise<V>(x.word[i]);
            break;
        case NoiseLaw::rademacher:
            for (int i = 0; i < 4; ++i)
                z[i] = rademacher_noise<V>(x.word[i]);
            break;
        case NoiseLaw::laplace:
            for (int i = 0; i < 4; ++i)
                z[i] = laplace_noise<V>(x.word[i]);
            break;
        case NoiseLaw::student_t: {
            const PhiloxBlock<WordsOf<V>> turn = draw_words(rows.labels, step, block, key);
            for (int i = 0; i < 4; ++i)
                z[i] = student_noise<V>(constants, x.word[i], turn.word[i]);
            break;
        }
        case NoiseLaw::table:
            for (int i = 0; i < 4; ++i)
                z[i] = table_noise<V>(noise, x.word[i]);
            break;
        default:
            box_muller(x.word[0], x.word[1], z[0], z[1]);
            box_muller(x.word[2], x.word[3], z[2], z[3]);
    }
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
