// Rows of a data matrix: which ones the chains of a tile read, and how they become packs.
#pragma once

#include "tile.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// Beyond this many bytes the features do not stay in L2, and rows are fetched a step ahead.
constexpr std::int64_t prefetch_above = std::int64_t{256} << 10;

// Samples of a minibatch whose rows are drawn at once: what is kept of a batch has a bound, and an
// interrupt is seen inside a large one. A multiple of 4.
constexpr std::int64_t samples_at_once = 1024;

// Which row each chain reads: the counters tell it in advance, so rows are always drawn ahead.
template <class V>
struct RowSampler {
    static constexpr int lanes = LaneTraits<V>::lanes;
    using Real = RealOf<V>;
    using Words = WordsOf<V>;
    using Word = WordsOf<Real>;

    const SgdRows<Real>& p;
    PhiloxKey key;
    std::uint64_t first_chain;
    PackRows<V> rows;
    Permutation permutation[lanes];
    std::int64_t epoch;

    HL_MEMBER RowSampler(const SgdRows<Real>& parameters, const Tile<V>& tile)
        : p(parameters),
          key(philox_key(tile.chains.seed)),
          first_chain(tile.first_row()),
          epoch(-1) {}

    HL_MEMBER void begin_block(std::int64_t step) {
        rows = PackRows<V>::prepare(first_chain, step,
                                    static_cast<std::uint32_t>(Stream::row_sampling), key);
    }

    // The rows of every chain for samples first..last-1 of one step's minibatch,
    // index[sample - first][lane].
    HL_MEMBER void draw(std::int64_t step, std::int64_t first, std::int64_t last, Words* index) {
        if (p.sampling == Sampling::iid) {
            for (std::int64_t r = first; r < last; r += 4)
                draw_iid(step, r, index + (r - first));
        } else {
            for (std::int64_t r = first; r < last; ++r)
                draw_from_epoch(step * p.batch_size + r, index[r - first]);
        }
    }

  private:
    HL_MEMBER void draw_iid(std::int64_t step, std::int64_t r, Words* index) const {
        const PhiloxBlock<Words> block =
            draw_words(rows, step, static_cast<std::uint32_t>(r >> 2), key);
        const int count = p.batch_size - r < 4 ? static_cast<int>(p.batch_size - r) : 4;
        for (int c = 0; c < count; ++c) {
            if (HL_LIKELY(p.num_rows <= unbiased_above)) {
                index[c] = multiply_high(block.word[c], static_cast<std::uint32_t>(p.num_rows));
            } else {
                draw_unbiased(block.word[c], step, r + c, index[c]);
            }
        }
    }

    HL_MEMBER void draw_unbiased(const Words& word, std::int64_t step, std::int64_t r,
                                 Words& index) const {
        for (int lane = 0; lane < lanes; ++lane) {
            index[lane] = static_cast<Word>(
                iid_row(static_cast<std::uint32_t>(word[lane]), p.num_rows,
                        first_chain + static_cast<std::uint64_t>(lane), step, r, key));
        }
    }

    HL_MEMBER void draw_from_epoch(std::int64_t sample, Words& index) {
        const std::int64_t position = sample % p.num_rows;
        if (p.sampling == Sampling::sequential) {
            for (int lane = 0; lane < lanes; ++lane)
                index[lane] = static_cast<Word>(position);
            return;
        }
        if (sample / p.num_rows != epoch) begin_epoch(sample / p.num_rows);
        for (int lane = 0; lane < lanes; ++lane) {
            index[lane] = static_cast<Word>(permute(permutation[lane], position, p.num_rows));
        }
    }

    HL_MEMBER void begin_epoch(std::int64_t new_epoch) {
        epoch = new_epoch;
        for (int lane = 0; lane < lanes; ++lane) {
            permutation[lane] = epoch_permutation(first_chain + static_cast<std::uint64_t>(lane),
                                                  epoch, p.num_rows, key);
        }
    }
};

// The samples of a tile, a step ahead of their use.
template <class V>
struct DataSource {
    using Parameters = SgdRows<RealOf<V>>;
    using Real = RealOf<V>;
    using Words = WordsOf<V>;
    static constexpr int lanes = LaneTraits<V>::lanes;
    static constexpr bool has_batches = true;

    const Parameters& p;
    std::int64_t dim;
    RowSampler<V> sampler;
    Words* index;  // (samples at once,) rows that are read now
    Words* ahead;  // (samples at once,) rows that are read next
    bool prefetch;

    HL_MEMBER DataSource(Tile<V>& tile, const Parameters& parameters, V* scratch)
        : p(parameters),
          dim(tile.chains.dim),
          sampler(parameters, tile),
          index(reinterpret_cast<Words*>(scratch)),
          ahead(index + at_once(parameters)),
          prefetch(parameters.num_rows * dim * static_cast<std::int64_t>(sizeof(Real)) >
                   prefetch_above) {}

    static HL_MEMBER std::int64_t scratch_packs(const SgdChains<Real>&, const Parameters& p) {
        return 2 * at_once(p);
    }
    HL_MEMBER std::int64_t step_cost(std::int64_t size) const {
        return 20 + 3 * p.batch_size * (dim + size);
    }
    HL_MEMBER std::int64_t batch_size() const { return p.batch_size; }
    HL_MEMBER Real l2() const { return p.l2; }
    HL_MEMBER Real shape() const { return p.shape; }

    HL_MEMBER void begin_block(std::int64_t step) {
        sampler.begin_block(step);
        sampler.draw(step, 0, at_once(p), ahead);
    }

    // The next rows are those of samples first..end_of(first)-1.
    HL_MEMBER std::int64_t end_of(std::int64_t first) const {
        return p.batch_size - first < samples_at_once ? p.batch_size : first + samples_at_once;
    }
    HL_MEMBER void take_ahead() {
        Words* const drawn = ahead;
        ahead = index;
        index = drawn;
    }

    // Draws what comes after sample `last` - 1 of a step: more of its minibatch, or the next one.
    HL_MEMBER void draw_next(std::int64_t step, std::int64_t last) {
        const bool same_step = last < p.batch_size;
        const std::int64_t first = same_step ? last : 0;
        const std::int64_t end = end_of(first);
        sampler.draw(same_step ? step : step + 1, first, end, ahead);
        if (prefetch) prefetch_rows(end - first);
    }

    // Turns the rows that the lanes drew into columns of packs, and returns the targets.
    HL_MEMBER V gather(std::int64_t sample, V* columns) const {
        const Words& rows = index[sample];
        const Real* source[lanes];
        V target;
        for (int lane = 0; lane < lanes; ++lane) {
            source[lane] = row_at(rows, lane);
            target[lane] = p.targets[rows[lane]];
        }
        gather_columns(source, dim, columns);
        return target;
    }

    HL_MEMBER V take_row(std::int64_t, V* columns) {
        take_ahead();
        return gather(0, columns);
    }
    HL_MEMBER void look_ahead(std::int64_t step) { draw_next(step, 1); }

  private:
    static HL_MEMBER std::int64_t at_once(const Parameters& p) {
        return p.batch_size < samples_at_once ? p.batch_size : samples_at_once;
    }

    HL_MEMBER void prefetch_rows(std::int64_t samples) const {
        const std::int64_t bytes = dim * static_cast<std::int64_t>(sizeof(Real));
        for (std::int64_t r = 0; r < samples; ++r) {
            for (int lane = 0; lane < lanes; ++lane) {
                const char* row = reinterpret_cast<const char*>(row_at(ahead[r], lane));
                for (std::int64_t offset = 0; offset < bytes; offset += 64)
                    __builtin_prefetch(row + offset);
            }
        }
    }

    HL_MEMBER const Real* row_at(const Words& rows, int lane) const {
        return p.features + static_cast<std::int64_t>(rows[lane]) * dim;
    }
};

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
