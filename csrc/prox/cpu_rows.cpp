// Drivers of the projections onto simplices, balls and cones, one row each.
#include "cpu_sums.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

struct Same {
    template <class V>
    HL_MEMBER V operator()(V y) const {
        return y;
    }
};

struct Magnitude {
    template <class V>
    HL_MEMBER V operator()(V y) const {
        return absolute(y);
    }
};

// A row seen through `Change`, as simplex_threshold wants it.
template <class T, class Change>
struct ChangedRow {
    const T* x;
    std::int64_t count;

    HL_MEMBER RowSummary summary() const {
        const double lowest = -__builtin_inf();
        Strands sum = Strands::zeros(), largest;
        for (int i = 0; i < wide_packs; ++i)
            largest.pack[i] = broadcast<f64v>(lowest);
        over_strands(x, count, [&](int i, f64v element, auto... mask) {
            const f64v y = Change{}(element);
            if constexpr (sizeof...(mask) == 0) {
                sum.pack[i] += y;
                largest.pack[i] = largest.pack[i] < y ? y : largest.pack[i];
            } else {
                sum.pack[i] += ((mask ? y : f64v{}), ...);
                const f64v z = ((mask ? y : broadcast<f64v>(lowest)), ...);
                largest.pack[i] = largest.pack[i] < z ? z : largest.pack[i];
            }
        });
        return {sum.sum(), largest.largest()};
    }

    HL_MEMBER Active active(double theta) const {
        Strands sum = Strands::zeros(), number = Strands::zeros();
        const f64v one = broadcast<f64v>(1.0);
        over_strands(x, count, [&](int i, f64v element, auto... mask) {
            const f64v y = Change{}(element);
            f64v value = y >= theta ? y : f64v{};
            f64v counted = y >= theta ? one : f64v{};
            if constexpr (sizeof...(mask) != 0) {
                value = ((mask ? value : f64v{}), ...);
                counted = ((mask ? counted : f64v{}), ...);
            }
            sum.pack[i] += value;
            number.pack[i] += counted;
        });
        return {sum.sum(), number.sum()};
    }
};

template <class T>
HL_INLINE void fill_row(T* out, std::int64_t count, T value) {
    for (std::int64_t j = 0; j < count; ++j)
        out[j] = value;
}

template <class T>
HL_NOINLINE void simplex_row(const T* v, std::int64_t count, double z, T* out) {
    const ChangedRow<T, Same> row{v, count};
    const double theta = simplex_threshold(row, row.summary(), static_cast<double>(count), z);
    map_row(v, count, out, [theta](auto y) {
        const auto moved = y - theta;
        return decltype(y)(moved < 0.0 ? decltype(y){} : decltype(y)(moved));
    });
}

template <class T>
HL_NOINLINE void l1_ball_row(const T* v, std::int64_t count, double radius, T* out) {
    const ChangedRow<T, Magnitude> row{v, count};
    const RowSummary summary = row.summary();
    const double theta = summary.sum <= radius
                             ? 0.0
                             : simplex_threshold(row, summary, static_cast<double>(count), radius);
    map_row(v, count, out, [theta](auto y) {
        using V = decltype(y);
        return soft_threshold(y, broadcast<V>(theta));
    });
}

// Moreau: v - t lambda proj_{l1 ball}(v / (t lambda)) clips at the threshold of the projection.
template <class T>
HL_NOINLINE void l_inf_row(const T* v, std::int64_t count, double k, T* out) {
    const ChangedRow<T, Magnitude> row{v, count};
    const RowSummary summary = row.summary();
    if (summary.sum <= k) return fill_row(out, count, T(0));
    const double theta = simplex_threshold(row, summary, static_cast<double>(count), k);
    map_row(v, count, out, [theta](auto y) {
        using V = decltype(y);
        return clip(y, broadcast<V>(-theta), broadcast<V>(theta));
    });
}

template <class T>
HL_NOINLINE void l2_ball_row(const T* v, std::int64_t count, double radius, T* out) {
    const double factor = ball_factor(norm_of(v, count, Same{}), radius);
    map_row(v, count, out, [factor](auto y) { return decltype(y)(y * factor); });
}

template <class T>
HL_NOINLINE void cone_row(const T* v, std::int64_t count, T* out) {
    const double height = static_cast<double>(v[0]);
    const double norm = norm_of(v + 1, count - 1, Same{});
    double factor = 1.0, top = height;
    if (norm <= -height) {
        factor = top = 0.0;
    } else if (norm > height) {
        top = 0.5 * (height + norm);
        factor = top / norm;
    }
    out[0] = static_cast<T>(top);
    map_row(v + 1, count - 1, out + 1, [factor](auto y) { return decltype(y)(y * factor); });
}

template <class T, RowOperation operation>
Status rows_task(void* context, std::int64_t task) {
    const RowJob<T>& job = *static_cast<const RowJob<T>*>(context);
    const Range rows = rows_of(job, task);
    const std::int64_t n = job.columns;
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
        const T* const v = job.v + row * n;
        T* const out = job.out + row * n;
        const double number = job.numbers[row * job.number_stride];
        if constexpr (operation == RowOperation::simplex) simplex_row(v, n, number, out);
        if constexpr (operation == RowOperation::l1_ball) l1_ball_row(v, n, number, out);
        if constexpr (operation == RowOperation::l_inf) l_inf_row(v, n, number, out);
        if constexpr (operation == RowOperation::l2_ball) l2_ball_row(v, n, number, out);
        if constexpr (operation == RowOperation::cone) cone_row(v, n, out);
    }
    return task_done("prox");
}

template <class T>
Status run(const RowJob<T>& job) {
    switch (job.operation) {
        case RowOperation::simplex:
            return over_rows(job, rows_task<T, RowOperation::simplex>);
        case RowOperation::l1_ball:
            return over_rows(job, rows_task<T, RowOperation::l1_ball>);
        case RowOperation::l_inf:
            return over_rows(job, rows_task<T, RowOperation::l_inf>);
        case RowOperation::l2_ball:
            return over_rows(job, rows_task<T, RowOperation::l2_ball>);
        case RowOperation::cone:
            return over_rows(job, rows_task<T, RowOperation::cone>);
    }
    return Status::invalid_argument("prox: unknown operation");
}

// One group of one row.
template <class T>
HL_NOINLINE void shrink_group(const T* v, std::int64_t count, double soft, double shrink, T* out) {
    const auto change = [soft](auto y) {
        using V = decltype(y);
        return soft_threshold(y, broadcast<V>(soft));
    };
    const double factor = shrink_factor(norm_of(v, count, change), shrink);
    map_row(v, count, out, [&](auto y) { return decltype(y)(change(y) * factor); });
}

// out = soft(v) factor for one group; packs that overlap take the place of single elements.
template <class T>
HL_INLINE void scale_short(const T* v, std::int64_t size, f64v soft, double factor, T* out) {
    const auto scaled = [&](std::int64_t j) {
        return f64v(soft_threshold(load_widened(v + j), soft) * factor);
    };
    if (size < wide_lanes) {
        for (std::int64_t j = 0; j < size; ++j)
            out[j] = static_cast<T>(soft_threshold(static_cast<double>(v[j]), soft[0]) * factor);
        return;
    }
    const f64v last = scaled(size - wide_lanes);  // before `out`, which may be v, changes
    for (std::int64_t j = 0; j + wide_lanes < size; j += wide_lanes)
        store_narrowed(out + j, scaled(j));
    store_narrowed(out + size - wide_lanes, last);
}

// As many groups of one size as a pack has lanes, side by side in memory, each of `packs` packs of
// which the last may reach into what follows. False when a norm needs care; then nothing is
// written. The order of the sums is that of short_sum_of_squares.
template <class T, int packs>
HL_INLINE bool shrink_pack(const T* v, std::int64_t size, f64v soft, f64v shrink, T* out) {
    f64v sums[wide_lanes];
    const auto own = first_lanes(packs - 1, size);
    for (int g = 0; g < wide_lanes; ++g) {
        f64v part[packs];
        for (int i = 0; i < packs; ++i) {
            f64v y = soft_threshold(load_widened(v + g * size + i * wide_lanes), soft);
            if (i == packs - 1) y = own ? y : f64v{};
            part[i] = y * y;
        }
        int left = packs;
        for (int half = wide_packs / 2; half > 0; half /= 2) {
            for (int i = 0; i + half < left; ++i)
                part[i] += part[i + half];
            left = left < half ? left : half;
        }
        sums[g] = part[0];
    }
    const f64v sum = fold_lanes(sums);
    if (HL_UNLIKELY(any_lane(~squares_are_safe(sum)))) return false;
    const f64v norm = square_root(sum);
    const f64v kept = 1.0 - shrink / norm;
    alignas(64) double factors[wide_lanes];
    store(factors, norm > shrink ? kept : f64v{});
    for (int g = 0; g < wide_lanes; ++g)
        scale_short(v + g * size, size, soft, factors[g], out + g * size);
    return true;
}

// Whole packs of groups of `size` elements from the first of [begin, end) on; returns the first
// group that is left.
template <class T, int packs>
HL_INLINE std::int64_t shrink_packs_of(const GroupJob<T>& job, const T* v, std::int64_t size,
                                       Range groups, double soft, double shrink, T* out) {
    const std::int64_t beyond = packs * wide_lanes - size;
    std::int64_t g = groups.begin;
    for (; g + wide_lanes <= groups.end && (g + wide_lanes) * size + beyond <= job.columns;
         g += wide_lanes) {
        const f64v k = shrink * load<f64v>(job.weights + g);
        const T* const x = v + g * size;
        if (shrink_pack<T, packs>(x, size, broadcast<f64v>(soft), k, out + g * size)) continue;
        for (std::int64_t i = g; i < g + wide_lanes; ++i)
            shrink_group(v + i * size, size, soft, shrink * job.weights[i], out + i * size);
    }
    return g;
}

// As shrink_packs_of, for groups of more packs than that the groups are worked on one by one.
constexpr int most_packs = wide_packs < 8 ? wide_packs : 8;

template <class T, int packs = 1>
HL_INLINE std::int64_t shrink_packs(const GroupJob<T>& job, const T* v, std::int64_t size,
                                    Range groups, double soft, double shrink, T* out) {
    if (size <= packs * wide_lanes)
        return shrink_packs_of<T, packs>(job, v, size, groups, soft, shrink, out);
    if constexpr (packs < most_packs)
        return shrink_packs<T, packs + 1>(job, v, size, groups, soft, shrink, out);
    return groups.begin;
}

// The size of all groups where they lie in order and are of one size up to 32, else 0.
template <class T>
HL_INLINE std::int64_t common_size(const GroupJob<T>& job) {
    const std::int64_t size = job.columns / job.groups;
    bool common = job.indices == nullptr && size > 0 && size <= strands;
    for (std::int64_t g = 0; common && g <= job.groups; ++g)
        common = job.offsets[g] == g * size;
    return common ? size : 0;
}

constexpr std::int64_t gathered = 1 << 10;

// A group whose elements lie apart: norm and factor by pieces that are gathered.
template <class T>
HL_INLINE void shrink_scattered(const GroupJob<T>& job, const T* v, Range elements, double soft,
                                double shrink, T* scratch, T* out) {
    const std::int64_t* const indices = job.indices + elements.begin;
    const std::int64_t count = elements.end - elements.begin;
    for (std::int64_t k = 0; k < count; ++k)
        scratch[k] = v[indices[k]];
    if (!is_useful(job, scratch, count)) return;
    shrink_group(scratch, count, soft, shrink, scratch);
    for (std::int64_t k = 0; k < count; ++k)
        out[indices[k]] = scratch[k];
}

// A job, and what all of its tasks would have to find out.
template <class T>
struct GroupWork {
    const GroupJob<T>& job;
    std::int64_t size;   // of all groups, see common_size
    std::int64_t parts;  // tasks of a row: long rows are cut between groups
    std::int64_t each;   // groups in a piece that stays in L1 between check and work
};

template <class T>
HL_NOINLINE void shrink_groups(const GroupWork<T>& work, std::int64_t row, Range groups,
                               T* scratch) {
    const GroupJob<T>& job = work.job;
    const T* const v = job.v + row * job.columns;
    T* const out = job.out + row * job.columns;
    const double soft = job.soft[row * job.number_stride];
    const double shrink = job.shrink[row * job.number_stride];
    const std::int64_t first = job.offsets[groups.begin], last = job.offsets[groups.end];
    if (job.indices == nullptr && !is_useful(job, v + first, last - first)) return;
    std::int64_t g = groups.begin;
    if (work.size > 0) g = shrink_packs(job, v, work.size, groups, soft, shrink, out);
    for (; g < groups.end; ++g) {
        const Range elements = {job.offsets[g], job.offsets[g + 1]};
        const double k = shrink * job.weights[g];
        if (job.indices == nullptr)
            shrink_group(v + elements.begin, elements.end - elements.begin, soft, k,
                         out + elements.begin);
        else
            shrink_scattered(job, v, elements, soft, k, scratch, out);
    }
}

template <class T>
HL_INLINE void shrink_pieces(const GroupWork<T>& work, std::int64_t row, Range groups, T* scratch) {
    for (std::int64_t g = groups.begin; g < groups.end; g += work.each)
        shrink_groups(work, row, {g, smaller(g + work.each, groups.end)}, scratch);
}

template <class T>
Status groups_task(void* context, std::int64_t task) {
    const GroupWork<T>& work = *static_cast<const GroupWork<T>*>(context);
    const GroupJob<T>& job = work.job;
    T local[gathered];
    T* scratch = local;
    T* owned = nullptr;
    if (job.indices != nullptr && job.columns > gathered) {
        owned =
            static_cast<T*>(__builtin_malloc(sizeof(T) * static_cast<std::size_t>(job.columns)));
        if (owned == nullptr) return Status::out_of_memory("prox");
        scratch = owned;
    }
    if (work.parts == 1) {
        const Range rows = rows_of(job, task);
        for (std::int64_t row = rows.begin; row < rows.end; ++row)
            shrink_pieces(work, row, {0, job.groups}, scratch);
    } else {
        const std::int64_t from_start = job.rows * work.parts - 1 - task;
        const std::int64_t part = from_start % work.parts;
        const Range groups = {part * job.groups / work.parts, (part + 1) * job.groups / work.parts};
        shrink_pieces(work, from_start / work.parts, groups, scratch);
    }
    __builtin_free(owned);
    return task_done("prox");
}

template <class T>
Status run_groups(const GroupJob<T>& job) {
    const std::int64_t parts = (job.columns + elements_per_task - 1) / elements_per_task;
    const std::int64_t pieces = (job.columns + elements_per_piece - 1) / elements_per_piece;
    GroupWork<T> work{job, common_size(job), smaller(parts, job.groups),
                      (job.groups + pieces - 1) / pieces};
    const std::int64_t each = rows_per_task(job.columns);
    const std::int64_t tasks =
        work.parts == 1 ? (job.rows + each - 1) / each : job.rows * work.parts;
    return parallel_for(tasks, job.num_threads, groups_task<T>, &work);
}

}  // namespace

Status prox_rows(const RowJob<float>& job) {
    return run(job);
}
Status prox_rows(const RowJob<double>& job) {
    return run(job);
}
Status prox_groups(const GroupJob<float>& job) {
    return run_groups(job);
}
Status prox_groups(const GroupJob<double>& job) {
    return run_groups(job);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
