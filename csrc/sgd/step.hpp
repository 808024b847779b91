// The mathematics of one SGD step: t_{k+1} = t_k - gamma g(t_k, xi_{k+1}).
//
// M. Sheshukova et al., "Nonasymptotic Analysis of SGD with the Richardson-Romberg Extrapolation",
// ICLR 2025 (arXiv 2410.05106). V is one row (float, double) or a pack of rows.
#pragma once

#include "../core/normal.hpp"
#include "kernels.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

template <class V>
HL_INLINE V sgd_update(V theta, V step_size, V gradient) {
    return theta - step_size * gradient;
}

// False for NaN too.
template <class V>
HL_INLINE auto within(V x, RealOf<V> limit) {
    return magnitude(x) <= limit;
}

// a (t - t*) + s xi.
template <class V>
HL_INLINE V quadratic_gradient(V theta, RealOf<V> curvature, RealOf<V> minimizer,
                               RealOf<V> noise_scale, V noise) {
    return curvature * (theta - minimizer) + noise_scale * noise;
}

// 2 t - sin(t + phase) + s xi: the experiment of the paper's section 6 has phase 0.
template <class V>
HL_INLINE V cosine_gradient(V theta, RealOf<V> phase, RealOf<V> noise_scale, V noise) {
    const RealOf<V> two = 2;
    return (two * theta - sine(V(theta + phase))) + noise_scale * noise;
}

// A sum of products in four strands, k mod 4, added in pairs: one order for every backend, and
// short enough a chain of additions to keep a processor busy.
template <class V>
struct Dot {
    V strand[4];

    HL_MEMBER Dot() : strand{V{}, V{}, V{}, V{}} {}
    HL_MEMBER V total() const { return (strand[0] + strand[1]) + (strand[2] + strand[3]); }
};

// sum_{k < n} a[k] b[k]; A holds scalars or packs.
template <class V, class A>
HL_INLINE V dot(std::int64_t n, const A* a, const V* b) {
    Dot<V> sum;
    std::int64_t k = 0;
    for (; k + 4 <= n; k += 4) {
        sum.strand[0] += a[k] * b[k];
        sum.strand[1] += a[k + 1] * b[k + 1];
        sum.strand[2] += a[k + 2] * b[k + 2];
        sum.strand[3] += a[k + 3] * b[k + 3];
    }
    if (k < n) sum.strand[0] += a[k] * b[k];
    if (k + 1 < n) sum.strand[1] += a[k + 1] * b[k + 1];
    if (k + 2 < n) sum.strand[2] += a[k + 2] * b[k + 2];
    return sum.total();
}

// A row index below n from one word, with a bias of at most n 2^-32.
HL_INLINE std::int64_t index_below(std::uint32_t word, std::int64_t n) {
    return static_cast<std::int64_t>(
        (static_cast<std::uint64_t>(word) * static_cast<std::uint64_t>(n)) >> 32);
}

// Above this many rows the bias is removed by rejection.
constexpr std::int64_t unbiased_above = std::int64_t{1} << 20;

// One word at (row, step, coordinate) of the row-sampling stream. A retry takes the same word of a
// block 2^24 further on, beyond the coordinates of any batch.
HL_INLINE std::uint32_t sampling_word(std::uint64_t chain, std::int64_t step,
                                      std::int64_t coordinate, std::uint32_t attempt,
                                      PhiloxKey key) {
    PhiloxBlock<std::uint64_t> counter;
    counter.word[0] = static_cast<std::uint32_t>(step);
    counter.word[1] = counter_word_1(step, static_cast<std::uint32_t>(Stream::row_sampling));
    counter.word[2] = chain;
    counter.word[3] = static_cast<std::uint32_t>(coordinate >> 2) + (attempt << 24);
    return static_cast<std::uint32_t>(philox4x32(counter, key).word[coordinate & 3]);
}

// A row drawn with replacement: sample r of the minibatch of this step. `word` is attempt 0.
HL_INLINE std::int64_t iid_row(std::uint32_t word, std::int64_t n, std::uint64_t chain,
                               std::int64_t step, std::int64_t r, PhiloxKey key) {
    if (n > unbiased_above) {
        // Lemire, "Fast random integer generation in an interval", 2019.
        const std::uint32_t m = static_cast<std::uint32_t>(n);
        const std::uint32_t threshold = (0u - m) % m;
        for (std::uint32_t attempt = 1; word * m < threshold && attempt < 256; ++attempt) {
            word = sampling_word(chain, step, r, attempt, key);
        }
    }
    return index_below(word, n);
}

// A pseudo-random permutation of 0..n-1 for one epoch of one chain, computed point by point, so
// that a reshuffled run needs no memory and can be resumed or replayed anywhere: a rotation, then
// an unbalanced Feistel network on the next power of two, walked until it falls below n.
struct Permutation {
    std::uint32_t round_key[8];
    std::uint32_t rotation;
};

HL_INLINE Permutation epoch_permutation(std::uint64_t chain, std::int64_t epoch, std::int64_t n,
                                        PhiloxKey key) {
    Permutation p;
    for (int i = 0; i < 8; ++i)
        p.round_key[i] = sampling_word(chain, epoch, i, 0, key);
    p.rotation = static_cast<std::uint32_t>(index_below(sampling_word(chain, epoch, 8, 0, key), n));
    return p;
}

// 32 bits in, 32 well-mixed bits out.
HL_INLINE std::uint32_t mix(std::uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

HL_INLINE int bit_width(std::uint32_t x) {
    int width = 0;
    for (; x != 0; x >>= 1)
        ++width;
    return width;
}

// Halves of few bits mix slowly: up to this many rows go through the rounds four times, each time
// with other keys. Once would leave pairs of neighbours up to 14 % off their share for 8 rows.
constexpr std::int64_t repeat_rounds_up_to = 64;

HL_INLINE std::int64_t permute(const Permutation& p, std::int64_t position, std::int64_t n) {
    const std::uint32_t passes = n <= repeat_rounds_up_to ? 4 : 1;
    const int bits = bit_width(static_cast<std::uint32_t>(n - 1));
    const int low_bits = (bits + 1) / 2;
    const std::uint32_t low_mask = (1u << low_bits) - 1u;
    const std::uint32_t high_mask = (1u << (bits - low_bits)) - 1u;
    std::int64_t rotated = position + p.rotation;
    if (rotated >= n) rotated -= n;
    std::uint32_t x = static_cast<std::uint32_t>(rotated);
    do {
        std::uint32_t low = x & low_mask;
        std::uint32_t high = x >> low_bits;
        for (std::uint32_t pass = 0; pass < passes; ++pass) {
            const std::uint32_t shift = pass * 0x9e3779b9u;
            for (int r = 0; r < 8; r += 2) {
                high ^= mix(low ^ (p.round_key[r] + shift)) & high_mask;
                low ^= mix(high ^ (p.round_key[r + 1] + shift)) & low_mask;
            }
        }
        x = (high << low_bits) | low;
    } while (x >= static_cast<std::uint32_t>(n));
    return static_cast<std::int64_t>(x);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
