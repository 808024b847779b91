// Uniforms, integers and Box-Muller normals from Philox words.
//
// Box-Muller because it has no branch, no table and a fixed number of words per normal: it keeps
// the counter map, and it is as fast in a register pack as on a GPU.
#pragma once

#include "math.hpp"
#include "philox.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// Uniform on (0, 1), never 0 or 1: ((x >> 9) + 1/2) 2^-23 in float, (x + 1/2) 2^-32 in double, both
// exact.
template <class V>
HL_INLINE V uniform(WordsOf<V> x) {
    if constexpr (is_single<V>) {
        return as_real((x >> 9) | 0x3f800000u) - 0x1.fffffep-1f;
    } else {
        const V shifted = as_real((x & 0xffffffffu) | 0x4330000000000000u);
        return (shifted - 0x1.fffffffffffffp+51) * 0x1p-32;
    }
}

// Two standard normals from two words.
template <class V>
HL_INLINE void box_muller(WordsOf<V> x0, WordsOf<V> x1, V& z0, V& z1) {
    const RealOf<V> minus_two = -2;
    const V r = square_root(V(minus_two * log_positive(uniform<V>(x0))));
    polar_turns(r, x1, z0, z1);
}

// The normals of coordinates 4 block .. 4 block + 3 for each row of the pack.
template <class V>
HL_INLINE void draw_normals(const PackRows<V>& rows, std::int64_t step, std::uint32_t block,
                            PhiloxKey key, V* z) {
    const PhiloxBlock<WordsOf<V>> x = draw_words(rows, step, block, key);
    box_muller(x.word[0], x.word[1], z[0], z[1]);
    box_muller(x.word[2], x.word[3], z[2], z[3]);
}

template <class V>
HL_INLINE void draw_uniforms(const PackRows<V>& rows, std::int64_t step, std::uint32_t block,
                             PhiloxKey key, V* u) {
    const PhiloxBlock<WordsOf<V>> x = draw_words(rows, step, block, key);
    for (int i = 0; i < 4; ++i)
        u[i] = uniform<V>(x.word[i]);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
