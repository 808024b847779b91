// Counts of one chunk of columns of a row, in three passes. The first compares the uniforms of all
// columns with mu, which bounds P(X > 0), and keeps the few columns that may hold more than zero;
// the second inverts those, a pack in step; the third draws the rates of the others, and their
// Poisson counts.
#pragma once

#include "../core/pack_memory.hpp"
#include "counts_kernels.hpp"
#include "step_counts.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

constexpr int count_lanes = LaneTraits<f64v>::lanes;
constexpr std::int64_t chunk_columns = 512;  // a multiple of 4 packs of any level

// ColumnList that are left, their parameters side by side.
struct alignas(64) ColumnList {
    std::uint64_t column[chunk_columns];
    double mean[chunk_columns], theta[chunk_columns], v[chunk_columns];
    std::int64_t count;

    HL_MEMBER void add(std::uint64_t column_, double mean_, double theta_, double v_) {
        column[count] = column_;
        mean[count] = mean_;
        theta[count] = theta_;
        v[count++] = v_;
    }

    // Gives the unused lanes of the last pack parameters that do no harm.
    HL_MEMBER void pad() {
        for (std::int64_t i = count; i % count_lanes != 0; ++i) {
            column[i] = 0;
            mean[i] = 16.0;
            theta[i] = v[i] = 1.0;
        }
    }
};

struct alignas(64) Chunk {
    double first[chunk_columns], second[chunk_columns], uniform[chunk_columns];
    ColumnList small, mixed, rated;  // inverted, with a rate to draw, Poisson with rates >= 10
    CountAddress at;
    std::int64_t begin, count;

    HL_MEMBER void put(std::int32_t* out, std::uint64_t column, std::int32_t value) const {
        out[column - static_cast<std::uint64_t>(begin)] = value;
    }
};

// Unused columns up to a whole number of blocks of packs are given `padding`.
template <class T>
HL_INLINE void load_parameter(const CountParameter<T>& parameter, std::int64_t row,
                              const Chunk& chunk, double padding, double* target) {
    const T* const source =
        parameter.data + row * parameter.row_stride + chunk.begin * parameter.column_stride;
    if (parameter.column_stride != 0) {
        for (std::int64_t j = 0; j < chunk.count; ++j)
            target[j] = static_cast<double>(source[j]);
    } else {
        for (std::int64_t j = 0; j < chunk.count; ++j)
            target[j] = static_cast<double>(source[0]);
    }
    for (std::int64_t j = chunk.count; j % (4 * count_lanes) != 0; ++j)
        target[j] = padding;
}

// Blocks `first` and on, so ordered that the two columns of a block come out side by side.
HL_INLINE u64v paired_blocks(std::uint64_t first) {
    u64v blocks;
    for (int i = 0; i < count_lanes; ++i)
        blocks[i] = first + static_cast<std::uint64_t>(i / 2 + i % 2 * (count_lanes / 2));
    return blocks;
}

// The uniforms of all columns at attempt 0.
HL_INLINE void draw_paired(Chunk& chunk) {
    for (std::int64_t j = 0; j < chunk.count; j += 2 * count_lanes) {
        const auto block = static_cast<std::uint64_t>(chunk.begin + j) / 2;
        const PhiloxBlock<u64v> words = count_words(chunk.at, 0, paired_blocks(block));
        const f64v even = uniform_53<f64v>(words.word[0], words.word[1]);
        const f64v odd = uniform_53<f64v>(words.word[2], words.word[3]);
        store(chunk.uniform + j, unpack_low(even, odd));
        store(chunk.uniform + j + count_lanes, unpack_high(even, odd));
    }
}

constexpr std::uint32_t all_lanes = (1u << count_lanes) - 1;

// The lanes of a gamma attempt that are accepted.
HL_INLINE std::uint32_t accepted_lanes(const GammaShape<f64v>& shape,
                                       const GammaAttempt<f64v>& attempt) {
    const std::uint32_t quickly = lane_bits(attempt.accepted);
    if (quickly == all_lanes) return quickly;
    return quickly | lane_bits(attempt.possible & accepts_gamma(shape, attempt));
}

// Gamma(alpha, 1) for alpha >= 1, one column a lane: nearly all lanes accept the first attempt.
HL_INLINE f64v gamma_above_one(const CountAddress& at, u64v columns, f64v alpha) {
    const GammaShape<f64v> shape(alpha);
    const GammaAttempt<f64v> attempt(shape, count_words(at, gamma_attempt_first, columns));
    f64v value = attempt.value;
    std::uint32_t bits = accepted_lanes(shape, attempt) ^ all_lanes;
    for (; bits != 0; bits &= bits - 1) {
        const int lane = __builtin_ctz(bits);
        value[lane] = gamma_above_one(at, columns[lane], alpha[lane]);
    }
    return value;
}

HL_INLINE f64v log_boost_or_zero(const CountAddress& at, u64v columns, f64v alpha) {
    return any_lane(alpha < 1.0) ? log_boost(at, columns, alpha) : f64v{};
}

HL_INLINE f64v raise_to_one(f64v alpha) {
    return alpha < 1.0 ? f64v(alpha + 1.0) : alpha;
}

// Poisson counts of rates >= 10: all columns make their first attempt, those that fail the
// second...
HL_INLINE void reject_poisson(Chunk& chunk, std::int32_t* out) {
    ColumnList& left = chunk.rated;
    for (std::int64_t i = poisson_attempt_first; left.count > 0; ++i) {
        left.pad();
        const std::int64_t count = left.count;
        left.count = 0;
        for (std::int64_t begin = 0; begin < count; begin += count_lanes) {
            const u64v columns = load<u64v>(left.column + begin);
            const PoissonHat<f64v> hat(load<f64v>(left.mean + begin));
            const PoissonAttempt<f64v> attempt(hat, count_words(chunk.at, i, columns));
            const f64v k = round_down(attempt.value);
            std::uint32_t accepted = lane_bits(attempt.possible & attempt.accepted);
            if (accepted != all_lanes) {
                accepted |= lane_bits(attempt.possible &
                                      accepts_poisson(hat, attempt, log_positive(hat.rate), k));
            }
            for (int lane = 0; lane < count_lanes && begin + lane < count; ++lane) {
                if ((accepted >> lane & 1) != 0)
                    chunk.put(out, columns[lane], static_cast<std::int32_t>(k[lane]));
                else if (i + 1 < poisson_attempt_end)
                    left.add(columns[lane], hat.rate[lane], 1.0, 1.0);
                else
                    chunk.put(out, columns[lane], static_cast<std::int32_t>(hat.rate[lane]));
            }
        }
    }
}

struct NegativeBinomialLaw {
    static constexpr bool is_mixture = true;

    template <class T>
    static HL_MEMBER void load(const CountJob<T>& job, std::int64_t row, Chunk& chunk) {
        load_parameter(job.first, row, chunk, 0.0, chunk.first);
        load_parameter(job.second, row, chunk, 1.0, chunk.second);
    }

    // Lists the columns that may hold more than zero.
    static HL_MEMBER void screen(Chunk& chunk) {
        for (std::int64_t j = 0; j < chunk.count; j += count_lanes) {
            const f64v mu = hl::load<f64v>(chunk.first + j);
            const f64v theta = clamp_theta(hl::load<f64v>(chunk.second + j));
            const f64v v = hl::load<f64v>(chunk.uniform + j);
            std::uint32_t bits = lane_bits((v < mu) | (mu > longest_inverted_tail * theta));
            for (; bits != 0; bits &= bits - 1) {
                const int lane = __builtin_ctz(bits);
                const auto column = static_cast<std::uint64_t>(chunk.begin + j + lane);
                ColumnList& list =
                    is_inverted<double>(mu[lane], theta[lane]) ? chunk.small : chunk.mixed;
                list.add(column, mu[lane], theta[lane], v[lane]);
            }
        }
    }

    struct Pack {
        f64v mu, theta;
        HL_MEMBER Pack(const ColumnList& left, std::int64_t i)
            : mu(hl::load<f64v>(left.mean + i)), theta(hl::load<f64v>(left.theta + i)) {}
        HL_MEMBER f64v above_zero(f64v& zero) const {
            return negative_binomial_above_zero(mu, theta, zero);
        }
        HL_MEMBER NegativeBinomialRatio<f64v> ratio() const { return {mu, theta}; }
        HL_MEMBER NegativeBinomialRatio<double> ratio(int lane) const {
            return {mu[lane], theta[lane]};
        }
    };

    // Turns the columns that are not inverted into Poisson ones.
    static HL_MEMBER void mix(Chunk& chunk) {
        ColumnList& left = chunk.mixed;
        chunk.small.count = 0;
        for (std::int64_t i = gamma_attempt_first; left.count > 0; ++i) {
            left.pad();
            const std::int64_t count = left.count;
            left.count = 0;
            for (std::int64_t begin = 0; begin < count; begin += count_lanes) {
                const u64v columns = hl::load<u64v>(left.column + begin);
                const f64v mu = hl::load<f64v>(left.mean + begin);
                const f64v theta = hl::load<f64v>(left.theta + begin);
                const f64v v = hl::load<f64v>(left.v + begin);
                const GammaShape<f64v> shape(raise_to_one(theta));
                const GammaAttempt<f64v> attempt(shape, count_words(chunk.at, i, columns));
                const std::uint32_t accepted =
                    i < gamma_attempt_end ? accepted_lanes(shape, attempt) : all_lanes;
                const f64v gamma = i < gamma_attempt_end ? attempt.value : shape.d;
                const f64v boost = log_boost_or_zero(chunk.at, columns, theta);
                const f64v rate = mixed_rate(mu, theta, gamma, boost);
                for (int lane = 0; lane < count_lanes && begin + lane < count; ++lane) {
                    if ((accepted >> lane & 1) == 0) {
                        left.add(columns[lane], mu[lane], theta[lane], v[lane]);
                    } else if (v[lane] < rate[lane]) {
                        const bool low = rate[lane] < most_inverted_rate;
                        (low ? chunk.small : chunk.rated)
                            .add(columns[lane], rate[lane], 1.0, v[lane]);
                    }
                }
            }
        }
    }
};

struct PoissonLaw {
    static constexpr bool is_mixture = false;

    template <class T>
    static HL_MEMBER void load(const CountJob<T>& job, std::int64_t row, Chunk& chunk) {
        load_parameter(job.first, row, chunk, 0.0, chunk.first);
    }

    static HL_MEMBER void screen(Chunk& chunk) {
        for (std::int64_t j = 0; j < chunk.count; j += count_lanes) {
            const f64v rate = hl::load<f64v>(chunk.first + j);
            const f64v v = hl::load<f64v>(chunk.uniform + j);
            for (std::uint32_t bits = lane_bits(v < rate); bits != 0; bits &= bits - 1) {
                const int lane = __builtin_ctz(bits);
                const auto column = static_cast<std::uint64_t>(chunk.begin + j + lane);
                ColumnList& list = rate[lane] < most_inverted_rate ? chunk.small : chunk.rated;
                list.add(column, rate[lane], 1.0, v[lane]);
            }
        }
    }

    struct Pack {
        f64v rate;
        HL_MEMBER Pack(const ColumnList& left, std::int64_t i)
            : rate(hl::load<f64v>(left.mean + i)) {}
        HL_MEMBER f64v above_zero(f64v& zero) const { return poisson_above_zero(rate, zero); }
        HL_MEMBER PoissonRatio<f64v> ratio() const { return {rate}; }
        HL_MEMBER PoissonRatio<double> ratio(int lane) const { return {rate[lane]}; }
    };
};

// A pack of searches in step, which share k. The few that take long are finished one by one.
constexpr int rounds_in_step = 24;

template <class Law>
HL_INLINE void invert_columns(Chunk& chunk, std::int32_t* out) {
    ColumnList& left = chunk.small;
    left.pad();
    for (std::int64_t i = 0; i < left.count; i += count_lanes) {
        const typename Law::Pack pack(left, i);
        Inversion<f64v> search;
        search.v = load<f64v>(left.v + i);
        search.mean = load<f64v>(left.mean + i);
        search.above = pack.above_zero(search.p);
        const auto ratio = pack.ratio();
        f64v count{};
        auto active = search.v < search.above;
        double k = 0.0;
        for (; k < rounds_in_step && any_lane(active); k += 1.0) {
            count = active ? f64v(count + 1.0) : count;
            active = search.advance(k, ratio) & active;
        }
        for (std::uint32_t bits = lane_bits(active); bits != 0; bits &= bits - 1) {
            const int lane = __builtin_ctz(bits);
            count[lane] =
                finish({search.v[lane], search.above[lane], search.p[lane], search.mean[lane]}, k,
                       pack.ratio(lane));
        }
        for (int lane = 0; lane < count_lanes && i + lane < left.count; ++lane)
            chunk.put(out, left.column[i + lane], static_cast<std::int32_t>(count[lane]));
    }
}

// Counts for one chunk whose parameters are loaded.
template <class Law>
HL_INLINE void draw_counts(Chunk& chunk, std::int32_t* out) {
    draw_paired(chunk);
    __builtin_memset(out, 0, static_cast<std::size_t>(chunk.count) * sizeof *out);
    chunk.small.count = chunk.mixed.count = chunk.rated.count = 0;
    Law::screen(chunk);
    invert_columns<Law>(chunk, out);
    if constexpr (Law::is_mixture) {
        if (chunk.mixed.count > 0) {
            Law::mix(chunk);
            invert_columns<PoissonLaw>(chunk, out);
        }
    }
    reject_poisson(chunk, out);
}

// Zeros and ones for one chunk whose probabilities are loaded.
HL_INLINE void draw_bernoulli(Chunk& chunk, std::int32_t* out) {
    for (std::int64_t j = 0; j < chunk.count; j += 4 * count_lanes) {
        const auto block = static_cast<std::uint64_t>(chunk.begin + j) / 4;
        const PhiloxBlock<u64v> words =
            count_words(chunk.at, bernoulli_attempt, count_from(block, 1));
        f64v uniforms[4];
        for (int i = 0; i < 4; ++i)
            uniforms[i] = uniform<f64v>(words.word[i]);
        store_interleaved(chunk.uniform + j, uniforms);
    }
    for (std::int64_t j = 0; j < chunk.count; ++j)
        out[j] = chunk.uniform[j] < chunk.first[j] ? 1 : 0;
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
