// Counts and gamma variates, each a function of (seed, step, row, column).
//
//   negative binomial, mean mu and variance mu + mu^2/theta: by inversion where mu is small and the
//       tail short, else as Poisson(lambda), lambda ~ Gamma(theta, mu/theta).
//   Poisson: inversion below 10, else PTRS (W. Hoermann, "The transformed rejection method for
//       generating Poisson random variables", Insurance: Mathematics and Economics 12, 1993).
//   gamma: G. Marsaglia, W. W. Tsang, "A simple method for generating gamma variables", ACM TOMS
//       26(3), 2000.
//
// Inversion works on P(X > k) and not on P(X <= k), so that a small mu keeps all its digits.
//
// Words: the counter's step is step 2^22 + attempt. Attempt 0 serves two columns a block, for
// inversion; the others one column, so that no two columns share words.
#pragma once

#include "../core/log_gamma.hpp"
#include "../core/normal.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

constexpr int attempt_bits = 22;
constexpr std::int64_t gamma_attempt_first = 1;
constexpr std::int64_t gamma_attempt_end = std::int64_t{1} << 20;
constexpr std::int64_t boost_attempt = gamma_attempt_end;
constexpr std::int64_t bernoulli_attempt = boost_attempt + 1;
constexpr std::int64_t poisson_attempt_first = std::int64_t{1} << 21;
constexpr std::int64_t poisson_attempt_end = std::int64_t{1} << 22;

constexpr double most_inverted_mean = 16.0;       // negative binomial
constexpr double longest_inverted_tail = 0x1p14;  // mu / theta, the length of its tail
constexpr double most_inverted_rate = 10.0;       // Poisson
constexpr double most_rate = 1e8;

template <class V>
using MaskOf = decltype(V{} < V{});

struct CountAddress {
    PhiloxKey key;
    std::uint64_t row;
    std::int64_t step;
};

// The words of `column` at an attempt above 0; of columns 2 block and 2 block + 1 at attempt 0.
template <class U>
HL_INLINE PhiloxBlock<U> count_words(const CountAddress& at, std::int64_t attempt, U block) {
    const std::int64_t step = (at.step << attempt_bits) | attempt;
    const auto word_1 = counter_word_1(step, static_cast<std::uint32_t>(Stream::counts));
    const PhiloxBlock<U> counter = {
        {U{} + static_cast<std::uint64_t>(step), U{} + word_1, U{} + at.row, block}};
    return philox4x32(counter, at.key);
}

// Uniform on (0, 1] from 53 bits, (k + 1/2) 2^-53 rounded.
template <class V>
HL_INLINE V uniform_53(WordsOf<V> high, WordsOf<V> low) {
    const V top = as_real((high & 0xffffffffu) | 0x4330000000000000u) - 0x1p52;
    const V rest = as_real(((low & 0xffffffffu) >> 11) | 0x4330000000000000u) - (0x1p52 - 0.5);
    return top * 0x1p-32 + rest * 0x1p-53;
}

// --- inversion -----------------------------------------------------------------------------------

// P(X > 0) of the negative binomial; `zero` is P(X = 0).
template <class V>
HL_INLINE V negative_binomial_above_zero(V mu, V theta, V& zero) {
    return -exp_minus_one(V(-(theta * log1p(V(mu / theta)))), zero);
}

template <class V>
HL_INLINE V poisson_above_zero(V rate, V& zero) {
    return -exp_minus_one(V(-rate), zero);
}

// P(X = k + 1) / P(X = k) for one k.
template <class V>
struct NegativeBinomialRatio {
    V q, theta;
    HL_MEMBER NegativeBinomialRatio(V mu, V theta_) : q(mu / (mu + theta_)), theta(theta_) {}
    HL_MEMBER V operator()(double k) const { return (q * (k + theta)) * (1.0 / (k + 1.0)); }
};

template <class V>
struct PoissonRatio {
    V rate;
    HL_MEMBER V operator()(double k) const { return rate * (1.0 / (k + 1.0)); }
};

// Where the search for the number of k with v < P(X > k) stands: p = P(X = k), above = P(X > k).
template <class V>
struct Inversion {
    V v, above, p, mean;

    // Goes on to k + 1 and tells where the search is not over yet.
    template <class Ratio>
    HL_MEMBER MaskOf<V> advance(double k, const Ratio& ratio) {
        p = p * ratio(k);
        above = above - p;
        const auto over = (p < 0x1p-60) & (k + 1.0 > mean);
        return (v < above) & (over == 0);
    }
};

template <class Ratio>
HL_INLINE std::int32_t finish(Inversion<double> search, double k, const Ratio& ratio) {
    while (search.advance(k, ratio))
        k += 1.0;
    return static_cast<std::int32_t>(k) + 1;
}

template <class Ratio>
HL_INLINE std::int32_t invert(const Inversion<double>& search, const Ratio& ratio) {
    return search.v < search.above ? finish(search, 0.0, ratio) : 0;
}

// --- gamma ---------------------------------------------------------------------------------------

template <class V>
struct GammaShape {
    V d, c;
    HL_MEMBER explicit GammaShape(V alpha)  // >= 1
        : d(alpha - 1.0 / 3.0), c(1.0 / square_root(V(9.0 * d))) {}
};

// One attempt: the variate, and two sufficient conditions for it, of which the first is quick.
template <class V>
struct GammaAttempt {
    V value, normal_squared, cube, uniform;
    MaskOf<V> possible, accepted;

    HL_MEMBER GammaAttempt(const GammaShape<V>& shape, const PhiloxBlock<WordsOf<V>>& words) {
        V normal, unused;
        box_muller(words.word[0], words.word[1], normal, unused);
        uniform = uniform_53<V>(words.word[2], words.word[3]);
        const V root = 1.0 + shape.c * normal;
        cube = root * root * root;
        value = shape.d * cube;
        normal_squared = normal * normal;
        possible = root > 0.0;
        const V bound = 1.0 - 0.0331 * (normal_squared * normal_squared);
        accepted = (uniform < bound) & possible;
    }
};

template <class V>
HL_INLINE MaskOf<V> accepts_gamma(const GammaShape<V>& shape, const GammaAttempt<V>& t) {
    const V bound = 0.5 * t.normal_squared + shape.d * ((1.0 - t.cube) + log_positive(t.cube));
    return log_positive(t.uniform) < bound;
}

// Gamma(alpha, 1) for alpha >= 1; what is no such number comes back.
HL_INLINE double gamma_above_one(const CountAddress& at, std::uint64_t column, double alpha) {
    if (!(alpha >= 1.0)) return alpha;
    const GammaShape<double> shape(alpha);
    for (std::int64_t k = gamma_attempt_first; k < gamma_attempt_end; ++k) {
        const GammaAttempt<double> attempt(shape, count_words(at, k, column));
        if (attempt.accepted || (attempt.possible && accepts_gamma(shape, attempt)))
            return attempt.value;
    }
    return shape.d;
}

// log U / alpha, what a Gamma(alpha + 1, 1) is multiplied by, in logarithms, to be a Gamma(alpha,
// 1).
template <class V>
HL_INLINE V log_boost(const CountAddress& at, WordsOf<V> column, V alpha) {
    const PhiloxBlock<WordsOf<V>> words = count_words(at, boost_attempt, column);
    return log_positive(uniform_53<V>(words.word[0], words.word[1])) / alpha;
}

// exp(x) for x <= 700, 0 below -700.
template <class V>
HL_INLINE V exp_or_zero(V x) {
    const auto inside = x >= -700.0;
    const V e = exp_bounded(inside ? x : broadcast<V>(0.0));
    return inside ? e : broadcast<V>(0.0);
}

HL_INLINE double gamma_variate(const CountAddress& at, std::uint64_t column, double alpha) {
    if (alpha >= 1.0) return gamma_above_one(at, column, alpha);
    const double g = gamma_above_one(at, column, alpha + 1.0);
    return exp_or_zero(log_positive(g) + log_boost(at, column, alpha));
}

// --- Poisson -------------------------------------------------------------------------------------

// The constants of PTRS for one rate >= 10.
template <class V>
struct PoissonHat {
    V rate, a, b, squeeze;
    HL_MEMBER explicit PoissonHat(V rate_) : rate(rate_) {
        b = 0.931 + 2.53 * square_root(rate);
        a = -0.059 + 0.02483 * b;
        squeeze = 0.9277 - 3.6224 / (b - 2.0);
    }
};

template <class V>
struct PoissonAttempt {
    V value, distance, uniform;  // the value before rounding down; how far U is from the rim
    MaskOf<V> possible, accepted;

    HL_MEMBER PoissonAttempt(const PoissonHat<V>& hat, const PhiloxBlock<WordsOf<V>>& words) {
        const V u = uniform_53<V>(words.word[0], words.word[1]) - 0.5;
        uniform = uniform_53<V>(words.word[2], words.word[3]);
        distance = 0.5 - (u < 0.0 ? V(-u) : u);
        value = (2.0 * hat.a / distance + hat.b) * u + hat.rate + 0.43;
        possible =
            ((distance >= 0.013) | (uniform <= distance)) & (value >= 0.0) & (value < 0x1p50);
        accepted = (distance >= 0.07) & (uniform <= hat.squeeze);
    }
};

template <class V>
HL_INLINE V round_down(V x) {  // 0 <= x < 2^50
    const V nearest = (x + 0x1p52) - 0x1p52;
    return nearest > x ? V(nearest - 1.0) : nearest;
}

template <class V>
HL_INLINE MaskOf<V> accepts_poisson(const PoissonHat<V>& hat, const PoissonAttempt<V>& t,
                                    V log_rate, V k) {
    const V inverse_alpha = 1.1239 + 1.1328 / (hat.b - 3.4);
    const V area = hat.a / (t.distance * t.distance) + hat.b;
    const V left = log_positive(V(t.uniform * inverse_alpha / area));
    return left <= (k * log_rate - hat.rate) - log_gamma(V(k + 1.0));
}

HL_INLINE std::int32_t poisson_by_rejection(const CountAddress& at, std::uint64_t column,
                                            double rate) {
    const PoissonHat<double> hat(rate);
    const double log_rate = log_positive(rate);
    for (std::int64_t i = poisson_attempt_first; i < poisson_attempt_end; ++i) {
        const PoissonAttempt<double> attempt(hat, count_words(at, i, column));
        if (!attempt.possible) continue;
        const double k = round_down(attempt.value);
        if (attempt.accepted || accepts_poisson(hat, attempt, log_rate, k))
            return static_cast<std::int32_t>(k);
    }
    return static_cast<std::int32_t>(rate);
}

// --- counts, from v, the uniform of the column at attempt 0 --------------------------------------

HL_INLINE std::int32_t poisson_count(const CountAddress& at, std::uint64_t column, double v,
                                     double rate) {
    if (rate >= most_inverted_rate)
        return poisson_by_rejection(at, column, rate > most_rate ? most_rate : rate);
    if (!(v < rate)) return 0;  // P(X > 0) <= rate: most zeros need no exponential
    double zero;
    const double above = poisson_above_zero(rate, zero);
    return invert({v, above, zero, rate}, PoissonRatio<double>{rate});
}

template <class V>
HL_INLINE V clamp_theta(V theta) {
    theta = theta > 0x1p60 ? broadcast<V>(0x1p60) : theta;
    return theta < 0x1p-100 ? broadcast<V>(0x1p-100) : theta;
}

// Whether the negative binomial is drawn by inversion; theta is clamped.
template <class V>
HL_INLINE MaskOf<V> is_inverted(V mu, V theta) {
    return (mu <= most_inverted_mean) & (mu <= longest_inverted_tail * theta);
}

// mu / theta times a Gamma(theta, 1), at most 10^8. `gamma` is that variate where theta >= 1;
// below, a Gamma(theta + 1, 1), and the product with exp(boost) is made in logarithms.
template <class V>
HL_INLINE V mixed_rate(V mu, V theta, V gamma, V boost) {
    V rate = mu / theta * gamma;
    const auto below_one = theta < 1.0;
    if (any_lane(below_one)) {
        const V log_rate = (log_positive(mu) - log_positive(theta)) + (log_positive(gamma) + boost);
        rate = below_one ? exp_or_zero(log_rate > 20.0 ? broadcast<V>(20.0) : log_rate) : rate;
    }
    return rate > most_rate ? broadcast<V>(most_rate) : rate;
}

HL_INLINE double mixed_rate(const CountAddress& at, std::uint64_t column, double mu, double theta) {
    const bool above_one = theta >= 1.0;
    const double gamma = gamma_above_one(at, column, above_one ? theta : theta + 1.0);
    const double boost = above_one ? 0.0 : log_boost(at, column, theta);
    return mixed_rate(mu, theta, gamma, boost);
}

HL_INLINE std::int32_t negative_binomial_count(const CountAddress& at, std::uint64_t column,
                                               double v, double mu, double theta) {
    theta = clamp_theta(theta);
    if (!is_inverted(mu, theta))
        return poisson_count(at, column, v, mixed_rate(at, column, mu, theta));
    if (!(v < mu)) return 0;
    double zero;
    const double above = negative_binomial_above_zero(mu, theta, zero);
    return invert({v, above, zero, mu}, NegativeBinomialRatio<double>(mu, theta));
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
