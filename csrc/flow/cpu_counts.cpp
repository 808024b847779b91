// Counts in bulk. A task is a number of whole rows, or a part of a long one.
#include "cpu_counts.hpp"

#include "../core/blocks.hpp"
#include "cpu_count_chunks.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class Law>
struct Counts {
    template <class T>
    static HL_MEMBER void run(const CountJob<T>& job, std::int64_t row, Chunk& chunk,
                              std::int32_t* out) {
        Law::load(job, row, chunk);
        draw_counts<Law>(chunk, out);
    }
};

struct Bernoulli {
    template <class T>
    static HL_MEMBER void run(const CountJob<T>& job, std::int64_t row, Chunk& chunk,
                              std::int32_t* out) {
        load_parameter(job.first, row, chunk, 0.0, chunk.first);
        draw_bernoulli(chunk, out);
    }
};

struct Gamma {
    template <class T>
    static HL_MEMBER void run(const CountJob<T>& job, std::int64_t row, Chunk& chunk, T* out) {
        load_parameter(job.first, row, chunk, 1.0, chunk.first);
        load_parameter(job.second, row, chunk, 1.0, chunk.second);
        for (std::int64_t j = 0; j < chunk.count; j += count_lanes) {
            const u64v columns = count_from(static_cast<std::uint64_t>(chunk.begin + j), 1);
            const f64v alpha = load<f64v>(chunk.first + j);
            f64v value = gamma_above_one(chunk.at, columns, raise_to_one(alpha));
            if (any_lane(alpha < 1.0)) {
                const f64v logarithm = log_positive(value) + log_boost(chunk.at, columns, alpha);
                value = alpha < 1.0 ? exp_or_zero(logarithm) : value;
            }
            store(chunk.uniform + j, f64v(value * load<f64v>(chunk.second + j)));
        }
        for (std::int64_t j = 0; j < chunk.count; ++j)
            out[j] = static_cast<T>(chunk.uniform[j]);
    }
};

// --- tasks ---------------------------------------------------------------------------------------

constexpr std::int64_t elements_per_task = 1 << 14;

// Rows of a task; a long row is cut into parts of whole chunks.
struct Cut {
    std::int64_t rows, parts, columns;

    HL_MEMBER Cut(std::int64_t rows_, std::int64_t columns_)
        : rows(columns_ < elements_per_task ? elements_per_task / columns_ : 1),
          parts((columns_ + elements_per_task - 1) / elements_per_task),
          columns(elements_per_task) {
        rows = smaller(rows, rows_);
    }
};

template <class T, class O>
struct Work {
    const CountJob<T>* job;
    O* out;
};

template <class Law, class T, class O>
Status count_task(void* context, std::int64_t task) {
    const Work<T, O>& work = *static_cast<const Work<T, O>*>(context);
    const CountJob<T>& job = *work.job;
    const Cut cut(job.rows, job.columns);
    const std::int64_t first_row = task / cut.parts * cut.rows;
    const std::int64_t last_row = smaller(first_row + cut.rows, job.rows);
    const std::int64_t first_column = task % cut.parts * cut.columns;
    const std::int64_t last_column = smaller(first_column + cut.columns, job.columns);
    Chunk chunk;
    chunk.at.key = philox_key(job.seed);
    chunk.at.step = job.step;
    for (std::int64_t row = first_row; row < last_row; ++row) {
        const std::int64_t number = job.numbers != nullptr ? job.numbers[row] : job.first_row + row;
        chunk.at.row = static_cast<std::uint64_t>(number);
        for (std::int64_t j = first_column; j < last_column; j += chunk_columns) {
            chunk.begin = j;
            chunk.count = smaller(chunk_columns, last_column - j);
            Law::run(job, row, chunk, work.out + row * job.columns + j);
        }
        if (stop_requested()) return Status::interrupted("flow counts");
    }
    return Status::success();
}

template <class Law, class T, class O>
Status run(const CountJob<T>& job, O* out) {
    const Cut cut(job.rows, job.columns);
    Work<T, O> work{&job, out};
    const std::int64_t row_tasks = (job.rows + cut.rows - 1) / cut.rows;
    return parallel_for(row_tasks * cut.parts, job.num_threads, count_task<Law, T, O>, &work);
}

template <class T>
constexpr CountKernels<T> kernels() {
    return {run<Counts<NegativeBinomialLaw>, T, std::int32_t>,
            run<Counts<PoissonLaw>, T, std::int32_t>,
            run<Bernoulli, T, std::int32_t>,
            run<Gamma, T, T>,
            count_likelihood,
            count_decode};
}

}  // namespace

extern const CountTable count_table;
const CountTable count_table = {kernels<float>(), kernels<double>()};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
