// The plug-in estimate: Hessians of the rows and outer products of the gradients, taken at the
// running mean of the extrapolated path.
#pragma once

#include "tile.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// `copies` is their number, or 0: any.
template <int copies, class V>
static HL_NOINLINE void find_mean_of(const Tile<V>& tile, V* point) {
    constexpr int halves = halves_of<V>, width = LaneTraits<f64v>::lanes;
    const TileStatistics<V>& s = tile.statistics;
    const f64v* const sums = reinterpret_cast<const f64v*>(tile.sums);
    const f64v* const weights = s.weights;
    const std::int64_t d = s.dim, num_copies = copies > 0 ? copies : s.copies;
    const double inverse_count = 1.0 / static_cast<double>(s.count);
    for (std::int64_t i = 0; i < d; ++i) {
        for (int half = 0; half < halves; ++half) {
            f64v total = sums[i * halves + half];
            if (num_copies > 1) total = weights[half] * total;
            for (std::int64_t j = 1; j < num_copies; ++j) {
                const f64v sum = sums[(j * d + i) * halves + half];
                total = total + weights[j * halves + half] * sum;
            }
            RealOf<V>* const target = reinterpret_cast<RealOf<V>*>(point + i) + half * width;
            store_narrowed(target, running_mean(total, inverse_count));
        }
    }
}

template <class V>
HL_INLINE void find_running_mean(const Tile<V>& tile, V* point) {
    if (tile.statistics.copies == 1) {
        find_mean_of<1>(tile, point);
    } else if (tile.statistics.copies == 2) {
        find_mean_of<2>(tile, point);
    } else {
        find_mean_of<0>(tile, point);
    }
}

template <class V>
static HL_NOINLINE void add_hessian_of_row(TileStatistics<V>& s, const V* row, const V* curvature) {
    constexpr int halves = halves_of<V>;
    f64v* const wide = s.rows + s.num_rows * s.dim * halves;
    f64v* const curved = s.curved + s.num_rows * s.dim * halves;
    for (std::int64_t i = 0; i < s.dim; ++i) {
        for (int half = 0; half < halves; ++half) {
            wide[i * halves + half] = widened(row + i, half);
            curved[i * halves + half] = widened(curvature, half) * wide[i * halves + half];
        }
    }
    if (++s.num_rows == s.plug_depth) add_rows_that_wait(s);
}

template <class V>
static HL_NOINLINE void add_outer_of_gradient(TileStatistics<V>& s, const V* gradient) {
    constexpr int halves = halves_of<V>;
    f64v* const wide = s.gradients + s.num_gradients * s.dim * halves;
    for (std::int64_t i = 0; i < s.dim; ++i) {
        for (int half = 0; half < halves; ++half)
            wide[i * halves + half] = widened(gradient + i, half);
    }
    if (++s.num_gradients == s.plug_depth) add_gradients_that_wait(s);
}

template <class V>
struct PlugIn {
    using Real = RealOf<V>;
    static constexpr int lanes = LaneTraits<V>::lanes;
    static constexpr int halves = halves_of<V>;

    Tile<V>& tile;
    V* point;     // (d,) the running mean
    V* gradient;  // (d,) sum of residual times row over the batch
    bool on;      // at this step

    HL_MEMBER PlugIn(Tile<V>& t, V* scratch)
        : tile(t), point(scratch), gradient(scratch + t.chains.dim), on(false) {}

    static HL_MEMBER std::int64_t scratch_packs(const SgdChains<Real>& chains) {
        const SgdStatistics& s = chains.statistics;
        return s.plug_hessian != nullptr || s.plug_outer != nullptr ? 2 * chains.dim : 0;
    }

    // From the second averaged step on there is a running mean.
    HL_MEMBER void begin() {
        on = tile.statistics.plug && tile.statistics.count > 0;
        if (HL_UNLIKELY(on)) find_running_mean(tile, point);
    }

    struct Slopes {
        V residual, curvature;
    };

    // Of the loss of a row, at the mean.
    template <class Loss>
    HL_MEMBER Slopes slopes(const V* columns, V target, Real shape) const {
        const V margin = dot(tile.chains.dim, columns, point);
        return {Loss::residual(margin, target, shape), Loss::curvature(margin, target, shape)};
    }

    HL_MEMBER void add_sample(const V* columns, const Slopes& of, bool first) {
        for (std::int64_t i = 0; i < tile.chains.dim; ++i) {
            const V product = of.residual * columns[i];
            gradient[i] = first ? product : V(gradient[i] + product);
        }
        add_hessian_of_row(tile.statistics, columns, &of.curvature);
    }

    // After the last sample of the step.
    HL_MEMBER void finish(Real inverse_batch, Real l2) {
        for (std::int64_t i = 0; i < tile.chains.dim; ++i)
            gradient[i] = gradient[i] * inverse_batch + l2 * point[i];
        add_outer_of_gradient(tile.statistics, gradient);
    }
};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
