// Sums of ridge functions of rows of data: moments, utilities, loads. Value and gradient in one
// pass over the rows, whose tensors of co-moments are never formed.
//
// Both products, y = R x and R^T q'(y), keep eight or more sums in registers, chains in the lanes,
// and read each number of R as a broadcast operand: a multiply-add for each number, at the rate of
// the processor. Class B: the sums of a chain have one order, whatever the width of a pack, but
// multiply-add does not exist on the base level.
#include "step_ridge_sum.hpp"
#include "tile.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// Numbers of R that one block of rows holds, so that the second product finds them in the first
// cache.
constexpr std::int64_t block_numbers = 4096;
constexpr int rows_at_once = 8;
constexpr int columns_at_once = 12;

// Sums over a panel: of w q(y) and w q'(y), or three moments of y.
template <class V>
struct RowValues {
    V value, slope, third;
};

template <class V>
struct RowSum {
    static constexpr int lanes = LaneTraits<V>::lanes;
    using Real = RealOf<V>;

    const SimplexRidgeSum<Real>& p;
    const V* x;
    std::int64_t dim, block_rows;
    V shift;         // -m . x
    V* y;            // (panel_rows,)
    V* sums;         // (d,) over the panel
    double* totals;  // (d + 3, lanes): gradient, then what RowValues holds
    V a[max_profile_coefficients];

    HL_MEMBER RowSum(const SimplexRidgeSum<Real>& parameters, const Place<V>& place, const V* at)
        : p(parameters),
          x(at),
          dim(place.chains.dim),
          y(place.scratch),
          sums(y + panel_rows),
          totals(reinterpret_cast<double*>(sums + dim)) {
        block_rows = block_numbers / dim / rows_at_once * rows_at_once;
        block_rows = block_rows < rows_at_once ? rows_at_once : block_rows;
        block_rows = block_rows > panel_rows ? panel_rows : block_rows;
        V center{};
        for (std::int64_t s = 0; s < dim; ++s)
            center = multiply_add(p.center[s], x[s], center);
        shift = -center;
        if (p.profile != SimplexProfile::row_polynomials) {
            for (std::int32_t k = 0; k < p.num_coefficients; ++k)
                a[k] = broadcast<V>(p.coefficients[k]);
        }
        clear();
    }

    HL_MEMBER void clear() {
        for (std::int64_t k = 0; k < (dim + 3) * lanes; ++k)
            totals[k] = 0.0;
    }

    static HL_MEMBER std::int64_t scratch_packs(std::int64_t dim) {
        constexpr std::int64_t wide = static_cast<std::int64_t>(sizeof(double) / sizeof(Real));
        return panel_rows + dim + (dim + 3) * wide;
    }

    // Visits the rows in panels; `add(y, first, last, values)` does what there is to do for each.
    template <class Add>
    HL_MEMBER void visit(Add add) {
        for (std::int64_t first = 0; first < p.num_rows; first += panel_rows) {
            const std::int64_t end = first + panel_rows;
            const std::int64_t last = end < p.num_rows ? end : p.num_rows;
            for (std::int64_t s = 0; s < dim; ++s)
                sums[s] = V{};
            RowValues<V> values{V{}, V{}, V{}};
            for (std::int64_t row = first; row < last; row += block_rows) {
                const std::int64_t until = row + block_rows < last ? row + block_rows : last;
                multiply_rows(row, until);
                add(row, until, values);
            }
            flush(values);
        }
    }

    // sums += R^T y over some rows.
    HL_MEMBER void add_columns(std::int64_t first, std::int64_t last) {
        std::int64_t blocks = (dim + columns_at_once - 1) / columns_at_once;
        for (std::int64_t s = 0; s < dim; --blocks) {
            const std::int64_t width = (dim - s + blocks - 1) / blocks;
            add_block(static_cast<int>(width), first, last, s);
            s += width;
        }
    }

    // The gradient and the value of c . x + sum.
    HL_MEMBER void finish(V extra, Real scale, V* gradient, V* value) const {
        const V slopes = total(dim + 1);
        V linear = extra;
        for (std::int64_t s = 0; s < dim; ++s) {
            const V own = total(s) - p.center[s] * slopes;
            gradient[s] = multiply_add(scale, own, broadcast<V>(p.linear[s]));
            linear = multiply_add(p.linear[s], x[s], linear);
        }
        *value = multiply_add(scale, total(dim), linear);
    }

    // Adds the sums of a panel to those of all rows.
    HL_MEMBER void flush(const RowValues<V>& values) {
        for (std::int64_t s = 0; s < dim; ++s)
            accumulate<1>(totals + s * lanes, sums + s, 0);
        accumulate<1>(totals + dim * lanes, &values.value, 0);
        accumulate<1>(totals + (dim + 1) * lanes, &values.slope, 0);
        accumulate<1>(totals + (dim + 2) * lanes, &values.third, 0);
    }

    HL_MEMBER V total(std::int64_t k) const {
        V rounded;
        for (int lane = 0; lane < lanes; ++lane)
            rounded[lane] = static_cast<Real>(totals[k * lanes + lane]);
        return rounded;
    }

  private:
    // y = R x - m . x for some rows.
    HL_MEMBER void multiply_rows(std::int64_t first, std::int64_t last) {
        std::int64_t row = first;
        for (; row + rows_at_once <= last; row += rows_at_once)
            multiply_block<rows_at_once>(row, y + (row - first));
        for (; row < last; ++row)
            multiply_block<1>(row, y + (row - first));
    }

    template <int count>
    HL_MEMBER void multiply_block(std::int64_t first, V* target) const {
        const Real* const source = p.rows + first * dim;
        V sum[count];
        for (int k = 0; k < count; ++k)
            sum[k] = shift;
        for (std::int64_t s = 0; s < dim; ++s) {
            const V weight = x[s];
            for (int k = 0; k < count; ++k)
                sum[k] = multiply_add(source[k * dim + s], weight, sum[k]);
        }
        for (int k = 0; k < count; ++k)
            target[k] = sum[k];
    }

    template <int width>
    HL_MEMBER void add_columns_of(std::int64_t first, std::int64_t last, std::int64_t s) const {
        V sum[width];
        for (int k = 0; k < width; ++k)
            sum[k] = sums[s + k];
        const Real* source = p.rows + first * dim + s;
        for (std::int64_t row = first; row < last; ++row, source += dim) {
            const V slope = y[row - first];
            for (int k = 0; k < width; ++k)
                sum[k] = multiply_add(source[k], slope, sum[k]);
        }
        for (int k = 0; k < width; ++k)
            sums[s + k] = sum[k];
    }

    HL_MEMBER void add_block(int width, std::int64_t first, std::int64_t last,
                             std::int64_t s) const {
        switch (width) {
            case 1:
                return add_columns_of<1>(first, last, s);
            case 2:
                return add_columns_of<2>(first, last, s);
            case 3:
                return add_columns_of<3>(first, last, s);
            case 4:
                return add_columns_of<4>(first, last, s);
            case 5:
                return add_columns_of<5>(first, last, s);
            case 6:
                return add_columns_of<6>(first, last, s);
            case 7:
                return add_columns_of<7>(first, last, s);
            case 8:
                return add_columns_of<8>(first, last, s);
            case 9:
                return add_columns_of<9>(first, last, s);
            case 10:
                return add_columns_of<10>(first, last, s);
            case 11:
                return add_columns_of<11>(first, last, s);
            default:
                return add_columns_of<12>(first, last, s);
        }
    }
};

// One term. Returns w_t q'(y_t).
template <class V>
HL_INLINE V add_term(RealOf<V> weight, const ValueAndSlope<V>& q, RowValues<V>& values) {
    const V slope = weight * q.slope;
    values.value = multiply_add(weight, q.value, values.value);
    values.slope += slope;
    return slope;
}

// The polynomials of four rows at once, whose chains of instructions run side by side.
template <class V>
HL_INLINE void add_polynomials(RowSum<V>& sum, std::int64_t first, std::int64_t last,
                               RowValues<V>& values) {
    const auto& p = sum.p;
    std::int64_t row = first;
    for (; row + 4 <= last; row += 4) {
        V* const y = sum.y + (row - first);
        V value[4], slope[4];
        const std::int32_t top = p.num_coefficients - 1;
        for (int k = 0; k < 4; ++k) {  // the first round of Horner's rule needs no slope
            value[k] = top > 0 ? multiply_add(sum.a[top], y[k], sum.a[top - 1]) : sum.a[0];
            slope[k] = top > 0 ? sum.a[top] : V{};
        }
        for (std::int32_t order = top - 2; order >= 0; --order) {
            for (int k = 0; k < 4; ++k) {
                slope[k] = multiply_add(slope[k], y[k], value[k]);
                value[k] = multiply_add(value[k], y[k], sum.a[order]);
            }
        }
        for (int k = 0; k < 4; ++k)
            y[k] = add_term(p.weights[row + k], {value[k], slope[k]}, values);
    }
    for (; row < last; ++row) {
        V& y = sum.y[row - first];
        y = add_term(p.weights[row], polynomial_profile(y, sum.a, p.num_coefficients), values);
    }
}

template <class V>
HL_INLINE void add_rows(RowSum<V>& sum, std::int64_t first, std::int64_t last,
                        RowValues<V>& values) {
    const auto& p = sum.p;
    if (p.profile == SimplexProfile::polynomial) {
        add_polynomials(sum, first, last, values);
    } else if (p.profile == SimplexProfile::row_polynomials) {
        for (std::int64_t row = first; row < last; ++row) {
            V& y = sum.y[row - first];
            const auto* own = p.coefficients + row * p.num_coefficients;
            y = add_term(p.weights[row], polynomial_profile(y, own, p.num_coefficients), values);
        }
    } else {
        for (std::int64_t row = first; row < last; ++row) {
            V& y = sum.y[row - first];
            y = add_term(p.weights[row], row_profile(sum.p, y, sum.a), values);
        }
    }
    sum.add_columns(first, last);
}

// Skewness and kurtosis: one pass for the moments, one for the gradient.
template <class V>
HL_INLINE void evaluate_standardised(RowSum<V>& sum, V* gradient, V* value) {
    using T = RealOf<V>;
    const auto& p = sum.p;
    const std::int64_t d = sum.dim;
    sum.visit([&](std::int64_t first, std::int64_t last, RowValues<V>& moments) {
        for (std::int64_t row = first; row < last; ++row) {
            const V y = sum.y[row - first];
            const V square = y * y;
            const V weighted = p.weights[row] * square;
            moments.value += weighted;
            moments.slope = multiply_add(weighted, y, moments.slope);
            moments.third = multiply_add(weighted, square, moments.third);
        }
    });
    const V m2 = sum.total(d), m3 = sum.total(d + 1), m4 = sum.total(d + 2);
    sum.clear();
    const StandardisedMoments<V> found = standardised_moments(m2, m3, m4, p.coefficients);
    sum.visit([&](std::int64_t first, std::int64_t last, RowValues<V>& values) {
        for (std::int64_t row = first; row < last; ++row) {
            V& y = sum.y[row - first];
            V slope = multiply_add(found.slope[3], y, found.slope[2]);
            slope = multiply_add(slope, y, found.slope[1]);
            y = p.weights[row] * (slope * y);
            values.slope += y;
        }
        sum.add_columns(first, last);
    });
    const T one = 1;
    sum.finish(found.value, one, gradient, value);
}

template <class V>
HL_INLINE void evaluate_all(RowSum<V>& sum, V* gradient, V* value) {
    using T = RealOf<V>;
    const T one = 1;
    sum.visit([&](std::int64_t first, std::int64_t last, RowValues<V>& values) {
        add_rows(sum, first, last, values);
    });
    sum.finish(V{}, one, gradient, value);
}

// Rows with replacement, other ones in each lane: T / b times the sum over the batch.
template <class V>
HL_INLINE void evaluate_batch(RowSum<V>& sum, const Place<V>& place, V* gradient, V* value) {
    constexpr int lanes = LaneTraits<V>::lanes;
    using T = RealOf<V>;
    const auto& p = sum.p;
    const std::int64_t d = sum.dim;
    const PhiloxKey key = philox_key(place.chains.seed);
    const auto sampler = PackRows<V>::prepare(
        static_cast<std::uint64_t>(place.chains.chain_offset + place.first_chain), place.step,
        static_cast<std::uint32_t>(Stream::row_sampling), key);
    V* const columns = place.scratch + RowSum<V>::scratch_packs(d);
    for (std::int64_t first = 0; first < p.batch_size; first += panel_rows) {
        const std::int64_t end = first + panel_rows;
        const std::int64_t last = end < p.batch_size ? end : p.batch_size;
        for (std::int64_t s = 0; s < d; ++s)
            sum.sums[s] = V{};
        RowValues<V> values{V{}, V{}, V{}};
        PhiloxBlock<WordsOf<V>> block{};
        for (std::int64_t r = first; r < last; ++r) {
            if ((r & 3) == 0)
                block = draw_words(sampler, place.step, static_cast<std::uint32_t>(r >> 2), key);
            const T* source[lanes];
            V weight;
            for (int lane = 0; lane < lanes; ++lane) {
                const std::uint32_t row =
                    sampled_row(static_cast<std::uint32_t>(block.word[r & 3][lane]), p.num_rows);
                source[lane] = p.rows + static_cast<std::int64_t>(row) * d;
                weight[lane] = p.weights[row];
            }
            gather_columns(source, d, columns);
            V y = sum.shift;
            for (std::int64_t s = 0; s < d; ++s)
                y = multiply_add(columns[s], sum.x[s], y);
            const ValueAndSlope<V> q = row_profile(sum.p, y, sum.a);
            const V slope = weight * q.slope;
            values.value = multiply_add(weight, q.value, values.value);
            values.slope += slope;
            for (std::int64_t s = 0; s < d; ++s)
                sum.sums[s] = multiply_add(columns[s], slope, sum.sums[s]);
        }
        sum.flush(values);
    }
    const T scale = static_cast<T>(p.num_rows) / static_cast<T>(p.batch_size);
    sum.finish(V{}, scale, gradient, value);
}

template <class V>
void evaluate_ridge_sum(const void* parameters, const Place<V>& place, const V* x, V* gradient,
                        V* value) {
    const auto& p = *static_cast<const SimplexRidgeSum<RealOf<V>>*>(parameters);
    RowSum<V> sum(p, place, x);
    if (p.batch_size > 0 && place.step != all_rows) {
        evaluate_batch(sum, place, gradient, value);
    } else if (p.profile == SimplexProfile::standardised) {
        evaluate_standardised(sum, gradient, value);
    } else {
        evaluate_all(sum, gradient, value);
    }
}

template <class V>
HL_INLINE Status run_ridge_sum(const SimplexChains<RealOf<V>>& chains,
                               const SimplexRidgeSum<RealOf<V>>& p) {
    const std::int64_t d = chains.dim;
    const std::int64_t packs = RowSum<V>::scratch_packs(d) + d;
    const std::int64_t rows = p.batch_size > 0 ? p.batch_size : p.num_rows;
    const std::int64_t epoch =
        p.batch_size > 0 ? (p.num_rows + p.batch_size - 1) / p.batch_size : 0;
    return simplex_run(chains, {evaluate_ridge_sum<V>, &p, packs, rows * (2 * d + 10),
                                "simplex_ridge_sum", epoch});
}

}  // namespace

Status simplex_ridge_sum(const SimplexChains<float>& c, const SimplexRidgeSum<float>& p) {
    return run_ridge_sum<f32v>(c, p);
}
Status simplex_ridge_sum(const SimplexChains<double>& c, const SimplexRidgeSum<double>& p) {
    return run_ridge_sum<f64v>(c, p);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
