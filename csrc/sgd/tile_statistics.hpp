// The statistics of a tile: what its averaged iterates add to, in structure-of-arrays order like
// the sums. Several steps are added at once, coordinate by coordinate, so that what they add to
// stays in registers.
#pragma once

#include "../core/pack_memory.hpp"
#include "step_statistics.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// A pack of reals is one pack of doubles, or two halves.
template <class V>
constexpr int halves_of = LaneTraits<V>::lanes / LaneTraits<f64v>::lanes;

HL_INLINE f64v widened(const f32v* x, int half) {
    return load_widened(reinterpret_cast<const float*>(x) + half * LaneTraits<f64v>::lanes);
}
HL_INLINE f64v widened(const f64v* x, int) {
    return *x;
}

template <class V>
struct TileStatistics {
    static constexpr int lanes = LaneTraits<V>::lanes;
    static constexpr int halves = halves_of<V>;
    static constexpr int plug_depth = 4;

    const SgdStatistics& user;
    std::int64_t copies, paths, dim;
    std::int64_t second_size;  // numbers of one path in `second`
    std::int64_t count;        // averaged steps that are in
    bool any, plug;            // beyond the path; the plug-in sums
    // All as (..., halves) packs, in the shapes of SgdStatistics; null when not asked for.
    f64v *weights, *shift, *squares, *products, *second, *hessian, *outer;
    f64v* scratch;  // what one group of steps makes
    // Rows, rows times their curvature, and gradients that wait to be added to the plug-in sums,
    // (plug_depth, d) each; how many rows and gradients there are.
    f64v *rows, *curved, *gradients;
    int num_rows, num_gradients;

    template <class Real>
    HL_MEMBER TileStatistics(const SgdChains<Real>& c)
        : user(c.statistics),
          copies(c.num_step_sizes),
          paths(c.num_step_sizes > 1 ? c.num_step_sizes + 1 : 1),
          dim(c.dim),
          second_size(user.full ? triangle(c.dim, 0) : c.dim),
          count(user.count),
          any(c.accumulate &&
              (user.squares != nullptr || user.products != nullptr || user.second != nullptr ||
               user.plug_hessian != nullptr || user.plug_outer != nullptr)),
          plug(c.accumulate && (user.plug_hessian != nullptr || user.plug_outer != nullptr)),
          weights(nullptr),
          shift(nullptr),
          squares(nullptr),
          products(nullptr),
          second(nullptr),
          hessian(nullptr),
          outer(nullptr),
          scratch(nullptr),
          rows(nullptr),
          curved(nullptr),
          gradients(nullptr),
          num_rows(0),
          num_gradients(0) {}

    // Sets the pointers from `memory` on and returns how many packs of doubles they take in all.
    HL_MEMBER std::int64_t lay_out(f64v* memory, int depth) {
        if (!any) return 0;
        std::int64_t used = 0;
        const auto take = [&](f64v*& target, std::int64_t numbers) {
            if (memory != nullptr) target = memory + used;
            used += numbers * halves;
        };
        const bool scaling = user.squares != nullptr || user.products != nullptr;
        take(weights, copies);
        take(shift, copies * dim);
        if (scaling) take(squares, paths * dim);
        if (scaling) take(products, copies * dim);
        if (user.second != nullptr) take(second, paths * second_size);
        if (plug) take(hessian, triangle(dim, 0));
        if (plug) take(outer, triangle(dim, 0));
        if (plug) take(rows, plug_depth * dim);
        if (plug) take(curved, plug_depth * dim);
        if (plug) take(gradients, plug_depth * dim);
        take(scratch, (user.full ? depth : 1) * paths * dim);  // centred iterates
        return used;
    }

    HL_MEMBER void load(std::int64_t first_chain, int live) {
        if (!any) return;
        for (int lane = 0; lane < lanes; ++lane) {
            const std::int64_t chain = first_chain + (lane < live ? lane : 0);
            load_lane(weights, user.weights, copies > 1 ? copies : 0,
                      user.weight_stride == 0 ? 0 : chain, lane);
            load_lane(shift, user.shift, copies * dim, chain, lane);
            load_lane(squares, user.squares, paths * dim, chain, lane);
            load_lane(products, user.products, copies * dim, chain, lane);
            load_lane(second, user.second, paths * second_size, chain, lane);
            load_lane(hessian, user.plug_hessian, triangle(dim, 0), chain, lane);
            load_lane(outer, user.plug_outer, triangle(dim, 0), chain, lane);
        }
    }

    HL_MEMBER void store(std::int64_t first_chain, int live) const {
        if (!any) return;
        for (int lane = 0; lane < live; ++lane) {
            const std::int64_t chain = first_chain + lane;
            store_lane(squares, user.squares, paths * dim, chain, lane);
            store_lane(products, user.products, copies * dim, chain, lane);
            store_lane(second, user.second, paths * second_size, chain, lane);
            store_lane(hessian, user.plug_hessian, triangle(dim, 0), chain, lane);
            store_lane(outer, user.plug_outer, triangle(dim, 0), chain, lane);
        }
    }

    // Averaged steps up to the next slot of the path, this one included; `otherwise` without one.
    HL_MEMBER std::int64_t until_slot(std::int64_t otherwise) const {
        return user.path == nullptr ? otherwise : user.stride - count % user.stride;
    }

    // Writes the slot of the path that is due after `count` steps, if any.
    HL_MEMBER void store_slot(const double* sums, std::int64_t first_chain, int live) const {
        if (user.path == nullptr || count % user.stride != 0) return;
        const std::int64_t slot = count / user.stride - 1, size = copies * dim;
        if (slot >= user.slots) return;
        for (int lane = 0; lane < live; ++lane) {
            double* const target = user.path + ((first_chain + lane) * user.slots + slot) * size;
            for (std::int64_t i = 0; i < size; ++i)
                target[i] = sums[i * lanes + lane];
        }
    }

  private:
    static HL_MEMBER void load_lane(f64v* target, const double* source, std::int64_t numbers,
                                    std::int64_t chain, int lane) {
        if (target == nullptr) return;
        double* const to = reinterpret_cast<double*>(target);
        for (std::int64_t i = 0; i < numbers; ++i)
            to[i * lanes + lane] = source == nullptr ? 0.0 : source[chain * numbers + i];
    }
    static HL_MEMBER void store_lane(const f64v* source, double* target, std::int64_t numbers,
                                     std::int64_t chain, int lane) {
        if (target == nullptr) return;
        const double* const from = reinterpret_cast<const double*>(source);
        for (std::int64_t i = 0; i < numbers; ++i)
            target[chain * numbers + i] = from[i * lanes + lane];
    }
};

// Adds `steps` iterates (steps, J, d) to the sums and to those of random scaling. What they add to
// stays in registers meanwhile, for a number of copies that is known.
template <int copies, class V>
static HL_NOINLINE void add_scaling(TileStatistics<V>& s, double* sums_of_tile, const V* iterates,
                                    int steps) {
    constexpr int halves = halves_of<V>;
    constexpr int paths = copies > 1 ? copies + 1 : 1;
    f64v* const sums = reinterpret_cast<f64v*>(sums_of_tile);
    const std::int64_t row = s.dim * halves, size = copies * s.dim;
    for (std::int64_t i = 0; i < s.dim; ++i) {
        for (int half = 0; half < halves; ++half) {
            const std::int64_t at = i * halves + half;
            f64v sum[copies], shift[copies], product[copies], weight[copies], square[paths];
            for (int j = 0; j < copies; ++j) {
                sum[j] = sums[j * row + at];
                shift[j] = s.shift[j * row + at];
                product[j] = s.products[j * row + at];
                weight[j] = s.weights[j * halves + half];
            }
            for (int p = 0; p < paths; ++p)
                square[p] = s.squares[p * row + at];
            double count = static_cast<double>(s.count);
            for (int k = 0; k < steps; ++k) {
                count += 1.0;
                f64v centred[copies];
                for (int j = 0; j < copies; ++j) {
                    sum[j] += widened(iterates + k * size + j * s.dim + i, half);
                    centred[j] = centred_sum(sum[j], count, shift[j]);
                    square[j] = add_square(square[j], centred[j]);
                    product[j] = add_product(product[j], count, centred[j]);
                }
                if constexpr (copies > 1) {
                    square[copies] =
                        add_square(square[copies], extrapolate(weight, centred, 1, copies));
                }
            }
            for (int j = 0; j < copies; ++j) {
                sums[j * row + at] = sum[j];
                s.products[j * row + at] = product[j];
            }
            for (int p = 0; p < paths; ++p)
                s.squares[p * row + at] = square[p];
        }
    }
}

// The same for any number of copies, step by step.
template <class V>
static HL_NOINLINE void add_scaling_of_many(TileStatistics<V>& s, double* sums_of_tile,
                                            const V* iterate, double count) {
    constexpr int halves = halves_of<V>;
    f64v* const sums = reinterpret_cast<f64v*>(sums_of_tile);
    const std::int64_t row = s.dim * halves;
    for (std::int64_t i = 0; i < s.dim; ++i) {
        for (int half = 0; half < halves; ++half) {
            const std::int64_t at = i * halves + half;
            for (std::int64_t j = 0; j < s.copies; ++j) {
                const std::int64_t cell = j * row + at;
                sums[cell] += widened(iterate + j * s.dim + i, half);
                const f64v centred = centred_sum(sums[cell], count, s.shift[cell]);
                s.squares[cell] = add_square(s.squares[cell], centred);
                s.products[cell] = add_product(s.products[cell], count, centred);
                s.scratch[j] = s.weights[j * halves + half] * centred;
            }
            f64v extrapolated = s.scratch[0];
            for (std::int64_t j = 1; j < s.copies; ++j)
                extrapolated = extrapolated + s.scratch[j];
            const std::int64_t cell = s.copies * row + at;
            s.squares[cell] = add_square(s.squares[cell], extrapolated);
        }
    }
}

// The iterate of every path relative to the shift, (P, d) packs of doubles, for one coordinate.
template <class V>
HL_INLINE void centre(const TileStatistics<V>& s, const V* iterate, std::int64_t i, int half,
                      f64v* target) {
    constexpr int halves = halves_of<V>;
    const std::int64_t row = s.dim * halves;
    f64v extrapolated{};
    for (std::int64_t j = 0; j < s.copies; ++j) {
        const f64v y =
            widened(iterate + j * s.dim + i, half) - s.shift[j * row + i * halves + half];
        target[j * row] = y;
        const f64v part = s.weights[j * halves + half] * y;
        extrapolated = j == 0 ? part : extrapolated + part;
    }
    if (s.copies > 1) target[s.copies * row] = extrapolated;
}

// Adds iterates (steps, J, d) to the sums of squares.
template <int copies, class V>
static HL_NOINLINE void add_variance(TileStatistics<V>& s, const V* iterates, int steps) {
    constexpr int halves = halves_of<V>;
    constexpr int paths = copies > 1 ? copies + 1 : 1;
    const std::int64_t row = s.dim * halves, size = copies * s.dim;
    for (std::int64_t i = 0; i < s.dim; ++i) {
        for (int half = 0; half < halves; ++half) {
            const std::int64_t at = i * halves + half;
            f64v shift[copies], weight[copies], second[paths];
            for (int j = 0; j < copies; ++j) {
                shift[j] = s.shift[j * row + at];
                weight[j] = s.weights[j * halves + half];
            }
            for (int p = 0; p < paths; ++p)
                second[p] = s.second[p * row + at];
            for (int k = 0; k < steps; ++k) {
                f64v y[copies];
                for (int j = 0; j < copies; ++j) {
                    y[j] = widened(iterates + k * size + j * s.dim + i, half) - shift[j];
                    second[j] = add_square(second[j], y[j]);
                }
                if constexpr (copies > 1)
                    second[copies] = add_square(second[copies], extrapolate(weight, y, 1, copies));
            }
            for (int p = 0; p < paths; ++p)
                s.second[p * row + at] = second[p];
        }
    }
}

// The same for one iterate of any number of copies.
template <class V>
static HL_NOINLINE void add_variance_of_many(TileStatistics<V>& s, const V* iterate) {
    constexpr int halves = halves_of<V>;
    const std::int64_t row = s.dim * halves;
    for (std::int64_t i = 0; i < s.dim; ++i) {
        for (int half = 0; half < halves; ++half) {
            const std::int64_t at = i * halves + half;
            centre(s, iterate, i, half, s.scratch + at);
            for (std::int64_t p = 0; p < s.paths; ++p)
                s.second[p * row + at] =
                    add_square(s.second[p * row + at], s.scratch[p * row + at]);
        }
    }
}

// total += left right^T of packs (d, halves), `count` times one after the other, `stride` packs
// apart; only the lower triangle. `left` and `right` may be one.
template <int count, class V>
static HL_NOINLINE void add_outer(const TileStatistics<V>& s, f64v* total, const f64v* left,
                                  const f64v* right, std::int64_t stride) {
    constexpr int halves = halves_of<V>;
    f64v* target = total;
    for (std::int64_t i = 0; i < s.dim; ++i) {
        f64v factor[halves][count];
        for (int half = 0; half < halves; ++half) {
            for (int c = 0; c < count; ++c)
                factor[half][c] = left[c * stride + i * halves + half];
        }
        for (std::int64_t k = 0; k <= i; ++k, target += halves) {
            for (int half = 0; half < halves; ++half) {
                f64v sum = target[half];
                for (int c = 0; c < count; ++c)
                    sum += factor[half][c] * right[c * stride + k * halves + half];
                target[half] = sum;
            }
        }
    }
}

// Adds what waits to the plug-in sums, in the order in which it came.
template <class V>
static HL_NOINLINE void add_waiting(TileStatistics<V>& s, f64v* total, const f64v* left,
                                    const f64v* right, int& count) {
    const std::int64_t stride = s.dim * halves_of<V>;
    if (count == s.plug_depth) {
        add_outer<TileStatistics<V>::plug_depth>(s, total, left, right, stride);
    } else {
        for (int k = 0; k < count; ++k)
            add_outer<1>(s, total, left + k * stride, right + k * stride, 0);
    }
    count = 0;
}

template <class V>
HL_INLINE void add_rows_that_wait(TileStatistics<V>& s) {
    add_waiting(s, s.hessian, s.curved, s.rows, s.num_rows);
}

template <class V>
HL_INLINE void add_gradients_that_wait(TileStatistics<V>& s) {
    add_waiting(s, s.outer, s.gradients, s.gradients, s.num_gradients);
}

// Adds iterates (steps, J, d) to the sums of outer products.
template <class V>
static HL_NOINLINE void add_covariance(TileStatistics<V>& s, const V* iterates, int steps) {
    constexpr int halves = halves_of<V>;
    const std::int64_t row = s.dim * halves, size = s.paths * row;
    for (int k = 0; k < steps; ++k) {
        for (std::int64_t i = 0; i < s.dim; ++i) {
            for (int half = 0; half < halves; ++half) {
                centre(s, iterates + k * s.copies * s.dim, i, half,
                       s.scratch + k * size + i * halves + half);
            }
        }
    }
    for (std::int64_t p = 0; p < s.paths; ++p) {
        const f64v* const y = s.scratch + p * row;
        f64v* const target = s.second + p * s.second_size * halves;
        if (steps == 4) {
            add_outer<4>(s, target, y, y, size);
            continue;
        }
        for (int k = 0; k < steps; ++k)
            add_outer<1>(s, target, y + k * size, y + k * size, 0);
    }
}

template <int copies, class V>
HL_INLINE void add_few(TileStatistics<V>& s, double* sums, const V* iterates, int steps) {
    if (s.squares != nullptr) add_scaling<copies>(s, sums, iterates, steps);
    if (s.second != nullptr && !s.user.full) add_variance<copies>(s, iterates, steps);
}

template <class V>
HL_INLINE void add_many(TileStatistics<V>& s, double* sums, const V* iterates, int steps) {
    for (int k = 0; k < steps; ++k) {
        const V* const iterate = iterates + k * s.copies * s.dim;
        const double count = static_cast<double>(s.count + k + 1);
        if (s.squares != nullptr) add_scaling_of_many(s, sums, iterate, count);
        if (s.second != nullptr && !s.user.full) add_variance_of_many(s, iterate);
    }
}

// Adds iterates (steps, J, d) to the sums and to all statistics but the plug-in ones.
template <class V>
static HL_NOINLINE void add_statistics(TileStatistics<V>& s, double* sums, const V* iterates,
                                       int steps) {
    if (s.squares == nullptr) {
        const std::int64_t size = s.copies * s.dim;
        for (int k = 0; k < steps; ++k) {
            for (std::int64_t i = 0; i < size; ++i)
                accumulate<1>(sums + i * s.lanes, iterates + k * size + i, size);
        }
    }
    if (s.copies == 1) {
        add_few<1>(s, sums, iterates, steps);
    } else if (s.copies == 2) {
        add_few<2>(s, sums, iterates, steps);
    } else if (s.copies == 3) {
        add_few<3>(s, sums, iterates, steps);
    } else {
        add_many(s, sums, iterates, steps);
    }
    if (s.second != nullptr && s.user.full) add_covariance(s, iterates, steps);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
