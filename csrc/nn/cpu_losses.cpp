// Losses and their gradients, row by row: values and sums in double, a mean over the rows.
#include "cpu.hpp"
#include "step_counts.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// One row at work. The three scratch rows belong to the task.
template <class T>
struct Row {
    std::int64_t number, table_row;
    const T* h;
    T* share;  // softmax
    T* term;   // parts of the loss
    T* slope;  // of the loss, without the factor `scale`
    T scale;   // weight / rows
};

template <class T>
HL_INLINE double sum_of(const T* x, std::int64_t count) {
    return strand_sum(count,
                      [&](auto pack, std::int64_t j) { return load_as<decltype(pack)>(x + j); });
}

template <class T>
HL_INLINE T largest(const T* x, std::int64_t count) {
    using V = typename PackOf<T>::Type;
    V best = broadcast<V>(x[0]);
    T top = x[0];
    for_columns<T>(0, count, [&](auto pack, std::int64_t j) {
        const auto value = load<decltype(pack)>(x + j);
        if constexpr (sizeof(pack) == sizeof(T)) {
            top = value > top ? value : top;
        } else {
            best = value > best ? value : best;
        }
    });
    for (int lane = 0; lane < LaneTraits<V>::lanes; ++lane)
        top = best[lane] > top ? best[lane] : top;
    return top;
}

// share = softmax(h); returns log sum exp h.
template <class T>
HL_INLINE double softmax(const Row<T>& row, std::int64_t width) {
    const T top = largest(row.h, width);
    for_columns<T>(0, width, [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        const V x = load<V>(row.h + j) - top;
        store(row.share + j, exp_bounded(clamp(x, exp_bound<V>)));
    });
    const double sum = sum_of(row.share, width);
    const T inverse = static_cast<T>(1.0 / sum);
    for_columns<T>(0, width, [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        store(row.share + j, V(load<V>(row.share + j) * inverse));
    });
    return static_cast<double>(top) + log_positive(sum);
}

// gradient = scale slope, or += .
template <class T>
HL_INLINE void give_slope(const NnLossJob<T>& job, const Row<T>& row) {
    if (job.gradient == nullptr) return;
    T* const to = job.gradient + row.number * job.gradient_stride;
    for_columns<T>(0, job.width, [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        const V value = load<V>(row.slope + j) * row.scale;
        store(to + j, V(job.adds ? load<V>(to + j) + value : value));
    });
}

// use(column, x) for the values of the row of the CSR target.
template <class T, class Use>
HL_INLINE void over_counts(const NnSparse<T>& table, std::int64_t row, const Use& use) {
    for (std::int64_t i = table.indptr[row]; i < table.indptr[row + 1]; ++i) {
        const T x = table.values[i];
        use(table.indices[i], table.transform == 4 ? static_cast<T>(x > 0) : x);
    }
}

// (h - y)^2, or Huber's: quadratic within delta, linear beyond.
template <bool huber, class T>
HL_INLINE double regression(const NnLossJob<T>& job, const Row<T>& row) {
    const T* const y = job.dense_target + row.table_row * job.width;
    const T delta = static_cast<T>(job.constant), half = T(0.5);
    const T mean = static_cast<T>(1.0 / static_cast<double>(job.width));
    for_columns<T>(0, job.width, [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        const V d = load<V>(row.h + j) - load<V>(y + j);
        const V inside = clamp(d, delta);
        store(row.term + j, huber ? V(inside * (d - half * inside)) : V(d * d));
        store(row.slope + j, V(mean * (huber ? inside : V(d + d))));
    });
    return sum_of(row.term, job.width) / static_cast<double>(job.width);
}

template <class T>
HL_INLINE double cross_entropy(const NnLossJob<T>& job, const Row<T>& row) {
    const double log_sum = softmax(row, job.width);
    const std::int32_t label = job.labels[row.table_row];
    __builtin_memcpy(row.slope, row.share, sizeof(T) * static_cast<std::size_t>(job.width));
    row.slope[label] -= T(1);
    return log_sum - static_cast<double>(row.h[label]);
}

// softplus(h) - x h.
template <class T>
HL_INLINE double bernoulli(const NnLossJob<T>& job, const Row<T>& row) {
    const T* const target =
        job.counts == nullptr ? job.dense_target + row.table_row * job.width : nullptr;
    for_columns<T>(0, job.width, [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        const V h = load<V>(row.h + j);
        const V x = target != nullptr ? load<V>(target + j) : V{};
        store(row.term + j, V(softplus(h) - x * h));
        store(row.slope + j, V(sigmoid(h) - x));
    });
    double loss = sum_of(row.term, job.width);
    if (job.counts != nullptr) {
        over_counts(*job.counts, row.table_row, [&](std::int32_t j, T x) {
            loss -= static_cast<double>(x) * static_cast<double>(row.h[j]);
            row.slope[j] -= x;
        });
    }
    return loss;
}

// L - sum x log mu + sum log x!, with the slope rho sum x - x.
template <class T>
HL_INLINE double poisson(const NnLossJob<T>& job, const Row<T>& row) {
    const double total = static_cast<double>(job.counts->totals[row.table_row]);
    const double log_scale = log_positive(total) - softmax(row, job.width);
    double loss = total, sum = 0;
    over_counts(*job.counts, row.table_row, [&](std::int32_t j, T x) {
        const double count = static_cast<double>(x);
        sum += count;
        loss += log_factorial(count) - count * (static_cast<double>(row.h[j]) + log_scale);
    });
    for_columns<T>(0, job.width, [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        store(row.slope + j, V(load<V>(row.share + j) * static_cast<T>(sum)));
    });
    over_counts(*job.counts, row.table_row, [&](std::int32_t j, T x) { row.slope[j] -= x; });
    return loss;
}

// --- the negative binomial -----------------------------------------------------------------------

template <class T>
struct Dispersion {
    const T* theta;
    const T* log_theta;
    T* slope;  // of log p by log theta, or null
};

constexpr int counts_at_once = 8;

// The counts of a row in eights, so that gamma functions run in packs.
template <class T>
struct Counts {
    double x[counts_at_once], h[counts_at_once];
    double theta[counts_at_once], log_theta[counts_at_once];
    double loss[counts_at_once], slope[counts_at_once], theta_slope[counts_at_once];
    std::int32_t column[counts_at_once];

    HL_MEMBER void load_from(const NnSparse<T>& table, const T* logits, const Dispersion<T>& by,
                             std::int64_t first, int count) {
        for (int k = 0; k < counts_at_once; ++k) {
            const std::int32_t j = k < count ? table.indices[first + k] : table.indices[first];
            column[k] = j;
            x[k] = k < count ? static_cast<double>(table.values[first + k]) : 0.0;
            h[k] = static_cast<double>(logits[j]);
            theta[k] = static_cast<double>(by.theta[j]);
            log_theta[k] = static_cast<double>(by.log_theta[j]);
        }
    }

    HL_MEMBER void evaluate(double log_scale) {
        for (int k = 0; k < counts_at_once; k += LaneTraits<f64v>::lanes) {
            const ZeroCount<f64v> excess =
                count_excess(load<f64v>(x + k), f64v(load<f64v>(h + k) + log_scale),
                             load<f64v>(theta + k), load<f64v>(log_theta + k));
            store(loss + k, excess.loss);
            store(slope + k, excess.slope);
            store(theta_slope + k, excess.theta_slope);
        }
    }
};

template <class T>
HL_INLINE double count_excesses(const NnLossJob<T>& job, const Row<T>& row, const Dispersion<T>& by,
                                double log_scale) {
    const NnSparse<T>& table = *job.counts;
    const std::int64_t end = table.indptr[row.table_row + 1];
    double loss = 0;
    Counts<T> counts;
    for (std::int64_t i = table.indptr[row.table_row]; i < end; i += counts_at_once) {
        const int count = static_cast<int>(smaller(counts_at_once, end - i));
        counts.load_from(table, row.h, by, i, count);
        counts.evaluate(log_scale);
        for (int k = 0; k < count; ++k) {
            loss += counts.loss[k];
            row.slope[counts.column[k]] += static_cast<T>(counts.slope[k]);
            if (by.slope != nullptr)
                by.slope[counts.column[k]] += static_cast<T>(counts.theta_slope[k]);
        }
    }
    return loss;
}

// With q = d log p / d log mu: d log p / d h = q - rho sum q.
template <class T>
HL_INLINE double negative_binomial(const NnLossJob<T>& job, const Row<T>& row,
                                   const Dispersion<T>& by) {
    const T total = job.counts->totals[row.table_row];
    const double log_scale = log_positive(static_cast<double>(total)) - softmax(row, job.width);
    for_columns<T>(0, job.width, [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        const ZeroCount<V> zero =
            zero_count(V(load<V>(row.share + j) * total), load<V>(by.theta + j));
        store(row.term + j, zero.loss);
        store(row.slope + j, zero.slope);
        if (by.slope != nullptr) store(by.slope + j, zero.theta_slope);
    });
    const double loss = sum_of(row.term, job.width) + count_excesses(job, row, by, log_scale);
    if (job.gradient == nullptr) return loss;
    const T sum = static_cast<T>(sum_of(row.slope, job.width));
    for_columns<T>(0, job.width, [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        store(row.slope + j, V(load<V>(row.share + j) * sum - load<V>(row.slope + j)));
    });
    return loss;
}

// Of the scratch: theta and log theta of each group, the slopes by log theta, the rows of tasks.
template <class T>
struct Scratch {
    T *theta, *log_theta, *slopes, *tasks;

    explicit HL_MEMBER Scratch(const NnLossJob<T>& job) {
        const bool dispersed = job.kind == NnLossKind::negative_binomial;
        const std::int64_t table = dispersed ? job.num_groups * job.width : 0;
        theta = job.scratch;
        log_theta = theta + table;
        slopes = log_theta + table;
        tasks = slopes + (dispersed ? job.rows * job.width : 0);
    }
};

template <class T>
HL_INLINE void set_theta(const NnLossJob<T>& job, const Scratch<T>& scratch) {
    for_columns<T>(0, job.num_groups * job.width, [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        const V low = broadcast<V>(T(lowest_log_theta)), high = broadcast<V>(T(highest_log_theta));
        V x = load<V>(job.log_theta + j);
        x = x < low ? low : x;
        x = x > high ? high : x;
        store(scratch.log_theta + j, x);
        store(scratch.theta + j, exp_bounded(x));
    });
}

template <class T>
HL_INLINE std::int64_t group_of(const NnLossJob<T>& job, std::int64_t r) {
    if (job.groups == nullptr) return 0;
    return job.groups[job.table_rows == nullptr ? r : job.table_rows[r]];
}

// The slopes of all rows, in their order, to the row of log theta of each.
template <class T>
Status give_theta_slopes(const NnLossJob<T>& job, const Scratch<T>& scratch, T scale) {
    return over_tasks(parts(job.width, columns_per_task), 2 * product_of(job.rows, job.width),
                      job.num_threads, [&](std::int64_t task) {
                          const std::int64_t begin = task * columns_per_task;
                          const std::int64_t end = smaller(begin + columns_per_task, job.width);
                          for (std::int64_t r = 0; r < job.rows; ++r) {
                              const T* const from = scratch.slopes + r * job.width;
                              T* const to = job.log_theta_gradient + group_of(job, r) * job.width;
                              for_columns<T>(begin, end, [&](auto pack, std::int64_t j) {
                                  using V = decltype(pack);
                                  store(to + j, V(load<V>(to + j) - scale * load<V>(from + j)));
                              });
                          }
                      });
}

template <class T>
HL_INLINE double row_loss(const NnLossJob<T>& job, const Row<T>& row, const Scratch<T>& scratch) {
    switch (job.kind) {
        case NnLossKind::mean_squared:
            return regression<false>(job, row);
        case NnLossKind::huber:
            return regression<true>(job, row);
        case NnLossKind::cross_entropy:
            return cross_entropy(job, row);
        case NnLossKind::binary_cross_entropy:
            return bernoulli(job, row);
        case NnLossKind::poisson:
            return poisson(job, row);
        case NnLossKind::negative_binomial:
            break;
    }
    const std::int64_t group = group_of(job, row.number) * job.width;
    T* const slope =
        job.log_theta_gradient == nullptr ? nullptr : scratch.slopes + row.number * job.width;
    return negative_binomial(
        job, row, Dispersion<T>{scratch.theta + group, scratch.log_theta + group, slope});
}

template <class T>
Status loss(const NnLossJob<T>& job) {
    const Scratch<T> scratch(job);
    const bool dispersed = job.kind == NnLossKind::negative_binomial;
    if (dispersed) set_theta(job, scratch);
    const T scale = static_cast<T>(job.weight / static_cast<double>(job.mean_rows));
    const Status status = over_tasks(
        parts(job.rows, nn_loss_rows), 64 * product_of(job.rows, job.width), job.num_threads,
        [&](std::int64_t task) {
            T* const own = scratch.tasks + 3 * task * job.width;
            const std::int64_t first = task * nn_loss_rows;
            const std::int64_t last = smaller(first + nn_loss_rows, job.rows);
            for (std::int64_t r = first; r < last; ++r) {
                const std::int64_t source = job.table_rows == nullptr ? r : job.table_rows[r];
                const Row<T> row{r,    source,          job.logits + r * job.stride,
                                 own,  own + job.width, own + 2 * job.width,
                                 scale};
                job.row_losses[r] = row_loss(job, row, scratch);
                give_slope(job, row);
            }
        });
    if (!status.ok() || !dispersed || job.log_theta_gradient == nullptr) return status;
    return give_theta_slopes(job, scratch, scale);
}

}  // namespace

Status nn_loss(const NnLossJob<float>& job) {
    return loss(job);
}
Status nn_loss(const NnLossJob<double>& job) {
    return loss(job);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
