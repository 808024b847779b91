// Drivers of the losses over the rows of a data matrix.
#include "cpu.hpp"
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

template <class V, class Loss>
struct RowsProblem {
    using Parameters = SgdRows<RealOf<V>>;
    using Real = RealOf<V>;
    using Words = WordsOf<V>;
    static constexpr int lanes = LaneTraits<V>::lanes;

    Tile<V>& tile;
    const Parameters& p;
    RowSampler<V> sampler;
    V* columns;    // (d,) the rows of this sample, one in each lane
    V* sums;       // (J, d) sum of residual times row over the batch
    Words* index;  // (samples at once,) rows that are read now
    Words* ahead;  // (samples at once,) rows that are read next
    bool prefetch;

    HL_MEMBER RowsProblem(Tile<V>& t, const Parameters& parameters)
        : tile(t),
          p(parameters),
          sampler(parameters, t),
          columns(t.scratch),
          sums(columns + t.chains.dim),
          index(reinterpret_cast<Words*>(sums + t.size)),
          ahead(index + at_once(parameters)),
          prefetch(parameters.num_rows * t.chains.dim * static_cast<std::int64_t>(sizeof(Real)) >
                   prefetch_above) {}

    static HL_MEMBER std::int64_t scratch_packs(const SgdChains<Real>& chains,
                                                const Parameters& p) {
        return chains.dim + chains.num_step_sizes * chains.dim + 2 * at_once(p);
    }
    HL_MEMBER std::int64_t step_cost() const {
        return 20 + 3 * p.batch_size * (tile.chains.dim + tile.size);
    }

    HL_MEMBER void begin_block(std::int64_t step, std::int64_t) {
        sampler.begin_block(step);
        sampler.draw(step, 0, at_once(p), ahead);
    }

    HL_MEMBER void advance(std::int64_t step) {
        if (p.batch_size == 1) {
            advance_by_one_row(step);
            return;
        }
        for (std::int64_t first = 0; first < p.batch_size; first += samples_at_once) {
            if (first > 0 && stop_requested()) return;  // so is what called this told
            const std::int64_t last = end_of(first);
            take_ahead();
            draw_next(step, last);
            for (std::int64_t r = first; r < last; ++r)
                add_sample(index[r - first], r == 0);
        }
        for (std::int64_t j = 0; j < tile.chains.num_step_sizes; ++j)
            update_copy(j);
    }

  private:
    static HL_MEMBER std::int64_t at_once(const Parameters& p) {
        return p.batch_size < samples_at_once ? p.batch_size : samples_at_once;
    }
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

    HL_MEMBER void prefetch_rows(std::int64_t samples) const {
        const std::int64_t bytes = tile.chains.dim * static_cast<std::int64_t>(sizeof(Real));
        for (std::int64_t r = 0; r < samples; ++r) {
            for (int lane = 0; lane < lanes; ++lane) {
                const char* row = reinterpret_cast<const char*>(row_at(ahead[r], lane));
                for (std::int64_t offset = 0; offset < bytes; offset += 64)
                    __builtin_prefetch(row + offset);
            }
        }
    }

    HL_MEMBER const Real* row_at(const Words& rows, int lane) const {
        return p.features + static_cast<std::int64_t>(rows[lane]) * tile.chains.dim;
    }

    // Turns the rows that the lanes drew into columns of packs.
    HL_MEMBER V gather(const Words& rows) {
        const std::int64_t d = tile.chains.dim;
        const Real* source[lanes];
        V target;
        for (int lane = 0; lane < lanes; ++lane) {
            source[lane] = row_at(rows, lane);
            target[lane] = p.targets[rows[lane]];
        }
        if (d < 4) {
            for (std::int64_t i = 0; i < d; ++i) {
                for (int lane = 0; lane < lanes; ++lane)
                    columns[i][lane] = source[lane][i];
            }
            return target;
        }
        for (std::int64_t i = 0; i + 4 <= d; i += 4)
            transpose_columns(source, i, columns + i);
        // What is left over, together with columns that are there already.
        if (d % 4 != 0) transpose_columns(source, d - 4, columns + d - 4);
        return target;
    }

    // A batch of one needs no sums, and dividing by its size would change nothing. The rows of the
    // next step are drawn while the residuals, long chains of dependent instructions, are under
    // way.
    HL_MEMBER void advance_by_one_row(std::int64_t step) {
        const std::int64_t d = tile.chains.dim;
        take_ahead();
        const V target = gather(index[0]);
        for (std::int64_t j = 0; j < tile.chains.num_step_sizes; ++j)
            sums[j] = Loss::residual(dot(d, columns, tile.theta + j * d), target);
        draw_next(step, 1);
        for (std::int64_t j = 0; j < tile.chains.num_step_sizes; ++j) {
            const V residual = sums[j];
            Range<V> range;
            range.reset();
            for (std::int64_t i = 0; i < d; ++i)
                update(j, i, residual * columns[i], range);
            tile.range[j] = range;
        }
    }

    HL_MEMBER void update(std::int64_t j, std::int64_t i, V gradient, Range<V>& range) {
        const std::int64_t at = j * tile.chains.dim + i;
        const V theta = tile.theta[at];
        const V next = sgd_update(theta, tile.chains.step_sizes[j], V(gradient + p.l2 * theta));
        tile.next[at] = next;
        range.add(next, tile.chains.divergence_limit);
    }

    HL_MEMBER void add_sample(const Words& rows, bool first) {
        const std::int64_t d = tile.chains.dim;
        const V target = gather(rows);
        for (std::int64_t j = 0; j < tile.chains.num_step_sizes; ++j) {
            const V residual = Loss::residual(dot(d, columns, tile.theta + j * d), target);
            V* const sum = sums + j * d;
            if (first) {
                for (std::int64_t i = 0; i < d; ++i)
                    sum[i] = residual * columns[i];
            } else {
                for (std::int64_t i = 0; i < d; ++i)
                    sum[i] += residual * columns[i];
            }
        }
    }

    HL_MEMBER void update_copy(std::int64_t j) {
        const std::int64_t d = tile.chains.dim;
        const Real one = 1;
        const Real inverse_batch = one / static_cast<Real>(p.batch_size);
        Range<V> range;
        range.reset();
        for (std::int64_t i = 0; i < d; ++i)
            update(j, i, sums[j * d + i] * inverse_batch, range);
        tile.range[j] = range;
    }
};

}  // namespace

Status sgd_least_squares(const SgdChains<float>& chains, const SgdRows<float>& p) {
    return run_tiles<f32v, RowsProblem<f32v, LeastSquaresLoss>>(chains, p);
}
Status sgd_least_squares(const SgdChains<double>& chains, const SgdRows<double>& p) {
    return run_tiles<f64v, RowsProblem<f64v, LeastSquaresLoss>>(chains, p);
}
Status sgd_logistic(const SgdChains<float>& chains, const SgdRows<float>& p) {
    return run_tiles<f32v, RowsProblem<f32v, LogisticLoss>>(chains, p);
}
Status sgd_logistic(const SgdChains<double>& chains, const SgdRows<double>& p) {
    return run_tiles<f64v, RowsProblem<f64v, LogisticLoss>>(chains, p);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
