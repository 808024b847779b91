// The CUDA driver of sums of ridge functions.
//
// A block takes 32 chains, one in each lane, and up to four warps of it share the rows of R: each
// warp sums panels of its own, which are then added in the order of the rows, in double as on the
// CPU. Eight rows at a time lie in shared memory, column by column: both products read them as
// broadcasts, and each weight or sum that a lane loads serves eight multiply-adds.
#include "cuda_chain.cuh"
#include "step_ridge_sum.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int rows_at_once = 8;
constexpr int columns_at_once = 64;  // of a tile in shared memory
constexpr int most_warps = 4;

// What a panel adds up besides the gradient: value and slope, or three moments.
constexpr int num_extra = 3;

template <class T>
struct RidgeSumProblem;

template <class T>
struct RidgeSumEvaluation {
    SimplexRidgeSum<T> p;
    const SimplexChains<T>& chains;
    std::int64_t chain, dim, epoch;
    int lane, warp, warps;
    Strided<T> sums;         // (d + num_extra,) of the panel of this warp
    Strided<double> totals;  // (d + num_extra,)
    T* tile;                 // (columns, rows_at_once) of this warp
    T* partial;              // sums of the first warp's first lane, if they are in shared memory
    T shift;

    HL_DEVICE_MEMBER RidgeSumEvaluation(const RidgeSumProblem<T>& problem, const Spot<T>& spot);

    HL_DEVICE_MEMBER void operator()(Strided<T> x, std::int64_t step, Strided<T> gradient,
                                     T& value) {
        T center = T(0);
        for (std::int64_t s = 0; s < dim; ++s)
            center = multiply_add(read_only(p.center + s), x[s], center);
        shift = -center;
        clear_totals();
        if (p.batch_size > 0 && step != all_rows) {
            add_batch(x, step);
            const T scale = static_cast<T>(p.num_rows) / static_cast<T>(p.batch_size);
            finish(x, T(0), scale, gradient, value);
            return;
        }
        T extra = T(0);
        T slope[4] = {T(0), T(0), T(0), T(0)};
        const bool standardised = p.profile == SimplexProfile::standardised;
        if (standardised) {
            add_panels<true>(x, slope);
            const StandardisedMoments<T> found =
                standardised_moments(total(dim), total(dim + 1), total(dim + 2), p.coefficients);
            extra = found.value;
            for (int k = 0; k < 4; ++k)
                slope[k] = found.slope[k];
            clear_totals();
        }
        add_panels<false>(x, slope);
        finish(x, extra, T(1), gradient, value);
    }

  private:
    HL_DEVICE_MEMBER T total(std::int64_t k) const { return static_cast<T>(totals[k]); }

    HL_DEVICE_MEMBER void clear_totals() {
        for (std::int64_t k = 0; k < dim + num_extra; ++k)
            totals[k] = 0.0;
    }

    // Panels in turns of one for each warp.
    template <bool moments>
    HL_DEVICE_MEMBER void add_panels(Strided<T> x, const T* slope) {
        for (std::int64_t first = 0; first < p.num_rows; first += warps * panel_rows) {
            const std::int64_t own = first + warp * panel_rows;
            const std::int64_t end = own + panel_rows;
            add_panel<moments>(x, slope, own, end < p.num_rows ? end : p.num_rows);
            if (warps == 1) {
                add_to_totals(sums);
                continue;
            }
            __syncthreads();
            for (int other = 0; other < warps && first + other * panel_rows < p.num_rows; ++other) {
                const std::int64_t at = (dim + num_extra) * warp_lanes * other + lane;
                add_to_totals(Strided<T>{partial + at, warp_lanes});
            }
            __syncthreads();
        }
    }

    HL_DEVICE_MEMBER void add_to_totals(Strided<T> panel) {
        for (std::int64_t k = 0; k < dim + num_extra; ++k)
            totals[k] += static_cast<double>(panel[k]);
    }

    // The sums of rows first..last-1, which may be none.
    template <bool moments>
    HL_DEVICE_MEMBER void add_panel(Strided<T> x, const T* slope, std::int64_t first,
                                    std::int64_t last) {
        for (std::int64_t k = 0; k < dim; ++k)
            sums[k] = T(0);
        T extra[num_extra] = {T(0), T(0), T(0)};
        for (std::int64_t row = first; row < last; row += rows_at_once) {
            const int count =
                static_cast<int>(last - row < rows_at_once ? last - row : rows_at_once);
            T y[rows_at_once];
            for (int k = 0; k < rows_at_once; ++k)
                y[k] = shift;
            for (std::int64_t s = 0; s < dim; s += columns_at_once)
                multiply_tile(x, row, count, s, y);
            for (int k = 0; k < rows_at_once; ++k) {
                if (k >= count) continue;
                y[k] = moments ? add_moments(row + k, y[k], extra)
                               : add_term(row + k, y[k], slope, extra);
            }
            if constexpr (!moments) {
                for (std::int64_t s = 0; s < dim; s += columns_at_once)
                    add_tile(row, count, s, y);
            }
        }
        for (int k = 0; k < num_extra; ++k)
            sums[dim + k] = extra[k];
    }

    HL_DEVICE_MEMBER T add_moments(std::int64_t row, T y, T* extra) const {
        const T square = y * y;
        const T weighted = read_only(p.weights + row) * square;
        extra[0] += weighted;
        extra[1] = multiply_add(weighted, y, extra[1]);
        extra[2] = multiply_add(weighted, square, extra[2]);
        return y;
    }

    // Adds w q(y); returns w q'(y).
    HL_DEVICE_MEMBER T add_term(std::int64_t row, T y, const T* slope, T* extra) const {
        const T weight = read_only(p.weights + row);
        if (p.profile == SimplexProfile::standardised) {
            T bend = multiply_add(slope[3], y, slope[2]);
            bend = multiply_add(bend, y, slope[1]);
            const T own = weight * (bend * y);
            extra[1] += own;
            return own;
        }
        const bool own_polynomial = p.profile == SimplexProfile::row_polynomials;
        const std::int64_t at = own_polynomial ? row * p.num_coefficients : 0;
        const ValueAndSlope<T> q = row_profile(p, y, p.coefficients + at);
        const T own = weight * q.slope;
        extra[0] = multiply_add(weight, q.value, extra[0]);
        extra[1] += own;
        return own;
    }

    // Brings columns s.. of some rows to the tile of this warp.
    HL_DEVICE_MEMBER int load_tile(std::int64_t row, int count, std::int64_t s) {
        const int width = static_cast<int>(dim - s < columns_at_once ? dim - s : columns_at_once);
        __syncwarp();  // the lanes have done with what was there
        for (int k = 0; k < count; ++k) {
            for (int c = lane; c < width; c += warp_lanes)
                tile[c * rows_at_once + k] = read_only(p.rows + (row + k) * dim + s + c);
        }
        __syncwarp();
        return width;
    }

    HL_DEVICE_MEMBER void multiply_tile(Strided<T> x, std::int64_t row, int count, std::int64_t s,
                                        T* y) {
        const int width = load_tile(row, count, s);
        for (int c = 0; c < width; ++c) {
            const T weight = x[s + c];
            const T* const column = tile + c * rows_at_once;
            for (int k = 0; k < rows_at_once; ++k)
                y[k] = k < count ? multiply_add(column[k], weight, y[k]) : y[k];
        }
    }

    HL_DEVICE_MEMBER void add_tile(std::int64_t row, int count, std::int64_t s, const T* y) {
        const int width = dim > columns_at_once ? load_tile(row, count, s) : static_cast<int>(dim);
        for (int c = 0; c < width; ++c) {
            T sum = sums[s + c];
            const T* const column = tile + c * rows_at_once;
            for (int k = 0; k < rows_at_once; ++k)
                sum = k < count ? multiply_add(column[k], y[k], sum) : sum;
            sums[s + c] = sum;
        }
    }

    // Rows with replacement, other ones for each chain.
    HL_DEVICE_MEMBER void add_batch(Strided<T> x, std::int64_t step) {
        const PhiloxKey key = philox_key(chains.seed);
        const auto sampler =
            PackRows<T>::prepare(static_cast<std::uint64_t>(chains.chain_offset + chain), step,
                                 static_cast<std::uint32_t>(Stream::row_sampling), key);
        const T slope[4] = {T(0), T(0), T(0), T(0)};
        for (std::int64_t first = 0; first < p.batch_size; first += panel_rows) {
            const std::int64_t end = first + panel_rows;
            const std::int64_t last = end < p.batch_size ? end : p.batch_size;
            for (std::int64_t k = 0; k < dim; ++k)
                sums[k] = T(0);
            T extra[num_extra] = {T(0), T(0), T(0)};
            PhiloxBlock<WordsOf<T>> block{};
            for (std::int64_t r = first; r < last; ++r) {
                if ((r & 3) == 0)
                    block = draw_words(sampler, step, static_cast<std::uint32_t>(r >> 2), key);
                const std::int64_t row =
                    sampled_row(static_cast<std::uint32_t>(block.word[r & 3]), p.num_rows);
                const T* const own = p.rows + row * dim;
                T y = shift;
                for (std::int64_t s = 0; s < dim; ++s)
                    y = multiply_add(read_only(own + s), x[s], y);
                y = add_term(row, y, slope, extra);
                for (std::int64_t s = 0; s < dim; ++s)
                    sums[s] = multiply_add(read_only(own + s), y, sums[s]);
            }
            for (int k = 0; k < num_extra; ++k)
                sums[dim + k] = extra[k];
            add_to_totals(sums);
        }
    }

    HL_DEVICE_MEMBER void finish(Strided<T> x, T extra, T scale, Strided<T> gradient, T& value) {
        const T slopes = total(dim + 1);
        T linear = extra;
        for (std::int64_t s = 0; s < dim; ++s) {
            const T own = total(s) - p.center[s] * slopes;
            gradient[s] = multiply_add(scale, own, p.linear[s]);
            linear = multiply_add(p.linear[s], x[s], linear);
        }
        value = multiply_add(scale, total(dim), linear);
    }
};

template <class T>
struct RidgeSumProblem : SimplexRidgeSum<T> {
    using Evaluation = RidgeSumEvaluation<T>;
    bool shared_sums;  // else in the workspace
};

template <class T>
HL_DEVICE_MEMBER RidgeSumEvaluation<T>::RidgeSumEvaluation(const RidgeSumProblem<T>& problem,
                                                           const Spot<T>& spot)
    : p(problem),
      chains(spot.chains),
      chain(spot.chain),
      dim(spot.chains.dim),
      epoch(problem.batch_size > 0
                ? (problem.num_rows + problem.batch_size - 1) / problem.batch_size
                : 0),
      lane(static_cast<int>(threadIdx.x) % warp_lanes),
      warp(spot.warp),
      warps(spot.warps),
      totals(spot.doubles),
      shift(T(0)) {
    HL_DYNAMIC_SHARED(memory);
    const int block_warp = static_cast<int>(threadIdx.x) / warp_lanes;
    const std::int64_t width = dim < columns_at_once ? dim : columns_at_once;
    tile = reinterpret_cast<T*>(memory) + block_warp * width * rows_at_once;
    const std::int64_t block_warps = static_cast<int>(blockDim.x) / warp_lanes;
    partial = reinterpret_cast<T*>(memory) + block_warps * width * rows_at_once;
    sums = spot.reals;
    if (problem.shared_sums) {
        const std::int64_t at = (dim + num_extra) * warp_lanes * block_warp + lane;
        sums = Strided<T>{partial + at, warp_lanes};
    }
}

template <class T>
struct RidgeSumPlan {
    Layout<T> layout;
    bool shared_sums;
};

// As many warps for the rows as there are panels and room for their sums.
template <class T>
RidgeSumPlan<T> plan_of(const SimplexChains<T>& chains, const SimplexRidgeSum<T>& p) {
    constexpr std::int64_t shared_limit = 48 << 10;
    const std::int64_t d = chains.dim;
    const std::int64_t size = static_cast<std::int64_t>(sizeof(T));
    const std::int64_t tile = rows_at_once * (d < columns_at_once ? d : columns_at_once) * size;
    const std::int64_t sums = (d + num_extra) * warp_lanes * size;
    int warps = p.batch_size > 0 ? 1 : most_warps;
    while (warps > 1 &&
           (warps * (tile + sums) > shared_limit || (warps / 2) * panel_rows >= p.num_rows))
        warps /= 2;
    const int block_warps = warps > 1 ? warps : simplex_block_threads / warp_lanes;
    const bool shared_sums = block_warps * (tile + sums) <= shared_limit;
    return {{d + num_extra, shared_sums ? 0 : d + num_extra, warps,
             block_warps * (tile + (shared_sums ? sums : 0))},
            shared_sums};
}

template <class T>
Status run_ridge_sum(const SimplexChains<T>& chains, const SimplexRidgeSum<T>& p,
                     const CudaCall& call, std::int64_t* steps_done) {
    const RidgeSumPlan<T> plan = plan_of(chains, p);
    RidgeSumProblem<T> problem;
    static_cast<SimplexRidgeSum<T>&>(problem) = p;
    problem.shared_sums = plan.shared_sums;
    const std::int64_t rows = p.batch_size > 0 ? 2 * p.batch_size : p.num_rows / plan.layout.warps;
    const double cost = 4.0 * static_cast<double>(rows) * static_cast<double>(chains.dim + 10);
    return launch_chains("simplex_ridge_sum", chains, problem, plan.layout, cost, call, steps_done);
}

template <class T>
std::int64_t ridge_sum_workspace(const SimplexChains<T>& chains, const SimplexRidgeSum<T>& p) {
    return plan_of(chains, p).layout.workspace(chains);
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

HL_SIMPLEX_CUDA_DEFINE(ridge_sum, SimplexRidgeSum, hl::run_ridge_sum, hl::ridge_sum_workspace)
