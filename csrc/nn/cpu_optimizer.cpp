// Clipping by the global norm, Adam or AdamW, and the moving average, in one pass over the
// parameters after the one that the norm takes.
#include "cpu.hpp"
#include "step_update.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// A pairwise sum: the tree depends on the count alone.
HL_INLINE double tree_sum(double* x, std::int64_t count) {
    for (; count > 1; count = (count + 1) / 2) {
        for (std::int64_t i = 0; i < count / 2; ++i)
            x[i] = x[2 * i] + x[2 * i + 1];
        if (count % 2 != 0) x[count / 2] = x[count - 1];
    }
    return count == 1 ? x[0] : 0.0;
}

template <class T>
HL_INLINE double squares(const T* g, std::int64_t count) {
    return strand_sum(count, [&](auto pack, std::int64_t j) {
        const auto x = load_as<decltype(pack)>(g + j);
        return x * x;
    });
}

template <class T>
Status gradient_norm(const NnUpdateJob<T>& job, double& norm) {
    const std::int64_t tasks = nn_update_tasks(job.count);
    const Status status = over_tasks(
        tasks, 2 * static_cast<double>(job.count), job.num_threads, [&](std::int64_t task) {
            const std::int64_t begin = task * nn_update_elements;
            job.partial_sums[task] =
                squares(job.gradient + begin, smaller(nn_update_elements, job.count - begin));
        });
    if (status.ok()) norm = square_root(tree_sum(job.partial_sums, tasks));
    return status;
}

template <class T>
HL_INLINE void update_range(const NnUpdateJob<T>& job, const NnStep<T>& step, std::int64_t begin,
                            std::int64_t end) {
    for_columns<T>(begin, end, [&](auto pack, std::int64_t j) {
        update_elements<decltype(pack)>(job.state, job.gradient, j, step);
    });
}

// A task's elements, cut where the decay begins and ends.
template <class T>
HL_INLINE void update_task(const NnUpdateJob<T>& job, const NnStep<T>& decayed,
                           const NnStep<T>& plain, std::int64_t begin, std::int64_t end) {
    const NnOptimizer& o = job.optimizer;
    for (std::int64_t i = 0; i < o.num_no_decay && begin < end; ++i) {
        const std::int64_t from = smaller(larger(o.no_decay[i].begin, begin), end);
        const std::int64_t to = smaller(larger(o.no_decay[i].end, begin), end);
        update_range(job, decayed, begin, from);
        update_range(job, plain, from, to);
        begin = to;
    }
    update_range(job, decayed, begin, end);
}

template <class T>
Status update(const NnUpdateJob<T>& job) {
    double norm = 0;
    Status status = gradient_norm(job, norm);
    if (!status.ok()) return status;
    if (job.norm != nullptr) *job.norm = norm;
    NnStep<T> decayed = step_of(job);
    decayed.clip = static_cast<T>(clip_factor(job.optimizer.clip_norm, norm));
    const NnStep<T> plain = without_decay(decayed);
    return over_tasks(nn_update_tasks(job.count), 16 * static_cast<double>(job.count),
                      job.num_threads, [&](std::int64_t task) {
                          const std::int64_t begin = task * nn_update_elements;
                          update_task(job, decayed, plain, begin,
                                      smaller(begin + nn_update_elements, job.count));
                      });
}

}  // namespace

Status nn_update(const NnUpdateJob<float>& job) {
    return update(job);
}
Status nn_update(const NnUpdateJob<double>& job) {
    return update(job);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
