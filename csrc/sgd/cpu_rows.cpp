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
    // index[(sample - first) * lanes + lane].
    HL_MEMBER void draw(std::int64_t step, std::int64_t first, std::int64_t last,
                        std::int64_t* index) {
        if (p.sampling == Sampling::iid) {
            for (std::int64_t r = first; r < last; r += 4)
                draw_iid(step, r, index + (r - first) * lanes);
        } else {
            for (std::int64_t r = first; r < last; ++r) {
                draw_from_epoch(step * p.batch_size + r, index + (r - first) * lanes);
            }
        }
    }

  private:
    HL_MEMBER void draw_iid(std::int64_t step, std::int64_t r, std::int64_t* index) const {
        const PhiloxBlock<WordsOf<V>> block =
            draw_words(rows, step, static_cast<std::uint32_t>(r >> 2), key);
        const int count = p.batch_size - r < 4 ? static_cast<int>(p.batch_size - r) : 4;
        for (int c = 0; c < count; ++c) {
            for (int lane = 0; lane < lanes; ++lane) {
                index[c * lanes + lane] =
                    iid_row(static_cast<std::uint32_t>(block.word[c][lane]), p.num_rows,
                            first_chain + static_cast<std::uint64_t>(lane), step, r + c, key);
            }
        }
    }

    HL_MEMBER void draw_from_epoch(std::int64_t sample, std::int64_t* index) {
        const std::int64_t position = sample % p.num_rows;
        if (p.sampling == Sampling::sequential) {
            for (int lane = 0; lane < lanes; ++lane)
                index[lane] = position;
            return;
        }
        if (sample / p.num_rows != epoch) begin_epoch(sample / p.num_rows);
        for (int lane = 0; lane < lanes; ++lane) {
            index[lane] = permute(permutation[lane], position, p.num_rows);
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
    static constexpr int lanes = LaneTraits<V>::lanes;

    Tile<V>& tile;
    const Parameters& p;
    RowSampler<V> sampler;
    V* columns;           // (d rounded up to 4,) the rows of this sample, one in each lane
    V* sums;              // (J, d) sum of residual times row over the batch
    std::int64_t* index;  // (samples at once, lanes) rows that are read now
    std::int64_t* ahead;  // (samples at once, lanes) rows that are read next
    bool prefetch;

    HL_MEMBER RowsProblem(Tile<V>& t, const Parameters& parameters)
        : tile(t),
          p(parameters),
          sampler(parameters, t),
          columns(t.scratch),
          sums(columns + (t.chains.dim + 3) / 4 * 4),
          index(reinterpret_cast<std::int64_t*>(sums + t.size)),
          ahead(index + at_once(parameters) * lanes),
          prefetch(parameters.num_rows * t.chains.dim * static_cast<std::int64_t>(sizeof(Real)) >
                   prefetch_above) {}

    static HL_MEMBER std::int64_t scratch_packs(const SgdChains<Real>& chains,
                                                const Parameters& p) {
        const std::int64_t index_packs = at_once(p) * 8 / static_cast<std::int64_t>(sizeof(Real));
        return chains.dim + 3 + chains.num_step_sizes * chains.dim + 2 * index_packs;
    }
    HL_MEMBER std::int64_t step_cost() const {
        return 20 + 3 * p.batch_size * (tile.chains.dim + tile.size);
    }

    HL_MEMBER void begin_block(std::int64_t step, std::int64_t) {
        sampler.begin_block(step);
        sampler.draw(step, 0, at_once(p), ahead);
    }

    HL_MEMBER void advance(std::int64_t step) {
        for (std::int64_t first = 0; first < p.batch_size; first += samples_at_once) {
            if (first > 0 && stop_requested()) return;  // so is what called this told
            const std::int64_t last = end_of(first);
            std::int64_t* const drawn = ahead;
            ahead = index;
            index = drawn;
            draw_next(step, last);
            for (std::int64_t r = first; r < last; ++r)
                add_sample(index + (r - first) * lanes, r == 0);
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
        for (std::int64_t r = 0; r < samples * lanes; ++r) {
            const char* row =
                reinterpret_cast<const char*>(p.features + ahead[r] * tile.chains.dim);
            for (std::int64_t offset = 0; offset < bytes; offset += 64) {
                __builtin_prefetch(row + offset);
            }
        }
    }

    // Turns the rows that the lanes drew into columns of packs.
    HL_MEMBER V gather(const std::int64_t* rows) {
        const std::int64_t d = tile.chains.dim;
        const Real* source[lanes];
        V target;
        for (int lane = 0; lane < lanes; ++lane) {
            source[lane] = p.features + rows[lane] * d;
            target[lane] = p.targets[rows[lane]];
        }
        std::int64_t i = 0;
        for (; i + 4 <= d; i += 4)
            transpose_columns(source, i, columns + i);
        for (; i < d; ++i) {
            for (int lane = 0; lane < lanes; ++lane)
                columns[i][lane] = source[lane][i];
        }
        return target;
    }

    HL_MEMBER void add_sample(const std::int64_t* rows, bool first) {
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
        const V* theta = tile.theta + j * d;
        V* next = tile.next + j * d;
        Mask<V> good = V{} <= V{};
        for (std::int64_t i = 0; i < d; ++i) {
            const V g = sums[j * d + i] * inverse_batch + p.l2 * theta[i];
            next[i] = sgd_update(theta[i], tile.chains.step_sizes[j], g);
            good &= within(next[i], tile.chains.divergence_limit);
        }
        tile.good[j] = good;
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
