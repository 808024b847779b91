// The losses of rows, wherever the rows come from.
//
// Source<V>: scratch_packs(chains, parameters); (tile, parameters, scratch); begin_block(step);
// take_row(step, columns), which writes the features and returns the targets; look_ahead(step),
// which prepares the row of the next step; l2(), shape(), batch_size().
#pragma once

#include "step_losses.hpp"
#include "tile.hpp"
#include "tile_plug_in.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class V, class Loss, class Source>
struct RowsProblem {
    using Parameters = typename Source::Parameters;
    using Real = RealOf<V>;

    Tile<V>& tile;
    V* columns;  // (d,) the rows of this sample, one in each lane
    V* sums;     // (J, d) sum of residual times row over the batch
    PlugIn<V> plug_in;
    Source source;

    HL_MEMBER RowsProblem(Tile<V>& t, const Parameters& p)
        : tile(t),
          columns(t.scratch),
          sums(columns + t.chains.dim),
          plug_in(t, sums + t.size),
          source(t, p, sums + t.size + PlugIn<V>::scratch_packs(t.chains)) {}

    static HL_MEMBER std::int64_t scratch_packs(const SgdChains<Real>& chains,
                                                const Parameters& p) {
        return chains.dim + chains.num_step_sizes * chains.dim + PlugIn<V>::scratch_packs(chains) +
               Source::scratch_packs(chains, p);
    }
    HL_MEMBER std::int64_t step_cost() const { return source.step_cost(tile.size); }

    HL_MEMBER void begin_block(std::int64_t step, std::int64_t) { source.begin_block(step); }

    HL_MEMBER void advance(std::int64_t step) {
        plug_in.begin();
        if constexpr (Source::has_batches) {
            if (source.batch_size() > 1) {
                advance_by_batch(step);
                return;
            }
        }
        advance_by_one_row(step);
    }

  private:
    // A batch of one needs no sums, and dividing by its size would change nothing. The row of the
    // next step is drawn while the residuals, long chains of dependent instructions, are under
    // way.
    HL_MEMBER void advance_by_one_row(std::int64_t step) {
        const std::int64_t d = tile.chains.dim;
        const Real l2 = source.l2();
        const V target = source.take_row(step, columns);
        for (std::int64_t j = 0; j < tile.chains.num_step_sizes; ++j)
            sums[j] = Loss::residual(dot(d, columns, tile.theta + j * d), target, source.shape());
        typename PlugIn<V>::Slopes slopes{};
        if (HL_UNLIKELY(plug_in.on))
            slopes = plug_in.template slopes<Loss>(columns, target, source.shape());
        source.look_ahead(step);
        if (HL_UNLIKELY(plug_in.on)) {
            const Real one = 1;
            plug_in.add_sample(columns, slopes, true);
            plug_in.finish(one, l2);
        }
        for (std::int64_t j = 0; j < tile.chains.num_step_sizes; ++j) {
            const V residual = sums[j];
            tile.move(j,
                      [&](std::int64_t i, V theta) { return residual * columns[i] + l2 * theta; });
        }
    }

    HL_MEMBER void advance_by_batch(std::int64_t step) {
        const std::int64_t d = tile.chains.dim, batch_size = source.batch_size();
        const Real one = 1, l2 = source.l2();
        const Real inverse_batch = one / static_cast<Real>(batch_size);
        for (std::int64_t first = 0; first < batch_size;) {
            if (first > 0 && stop_requested()) return;  // so is what called this told
            const std::int64_t last = source.end_of(first);
            source.take_ahead();
            source.draw_next(step, last);
            for (std::int64_t r = first; r < last; ++r)
                add_sample(r - first, r == 0);
            first = last;
        }
        if (HL_UNLIKELY(plug_in.on)) plug_in.finish(inverse_batch, l2);
        for (std::int64_t j = 0; j < tile.chains.num_step_sizes; ++j) {
            const V* const sum = sums + j * d;
            tile.move(j,
                      [&](std::int64_t i, V theta) { return sum[i] * inverse_batch + l2 * theta; });
        }
    }

    HL_MEMBER void add_sample(std::int64_t sample, bool first) {
        const std::int64_t d = tile.chains.dim;
        const V target = source.gather(sample, columns);
        for (std::int64_t j = 0; j < tile.chains.num_step_sizes; ++j) {
            const V residual =
                Loss::residual(dot(d, columns, tile.theta + j * d), target, source.shape());
            V* const sum = sums + j * d;
            if (first) {
                for (std::int64_t i = 0; i < d; ++i)
                    sum[i] = residual * columns[i];
            } else {
                for (std::int64_t i = 0; i < d; ++i)
                    sum[i] += residual * columns[i];
            }
        }
        if (HL_UNLIKELY(plug_in.on)) {
            const auto slopes = plug_in.template slopes<Loss>(columns, target, source.shape());
            plug_in.add_sample(columns, slopes, first);
        }
    }
};

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
