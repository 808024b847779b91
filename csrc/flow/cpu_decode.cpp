// From the last hidden layer of a decoder to counts, a block of 32 rows after the other: logits by
// a matrix product into a buffer, softmax with its sum in double, counts, nonzeros. The logits of
// all rows are never in memory together.
#include <cstdlib>

#include "cpu_counts.hpp"

#include "../core/pack_memory.hpp"
#include "../nn/product.hpp"
#include "cpu_count_chunks.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// Memory of one task.
template <class T>
struct Scratch {
    T* logits;             // (32, columns)
    T* hidden;             // (32, width), where the block has fewer rows
    double* mean;          // (columns,)
    std::int32_t* counts;  // (columns,)
    void* memory;

    HL_MEMBER bool allocate(const DecodeJob<T>& job) {
        constexpr std::int64_t size = sizeof(T);
        const std::int64_t padded = (job.columns + 63) / 64 * 64;
        const std::int64_t rows = job.weight != nullptr ? decode_block_rows : 0;
        const std::int64_t bytes = padded * (size * rows + 12) + rows * job.width * size;
        memory = std::malloc(static_cast<std::size_t>(bytes));
        if (memory == nullptr) return false;
        mean = static_cast<double*>(memory);
        logits = reinterpret_cast<T*>(mean + padded);
        hidden = logits + rows * padded;
        counts = reinterpret_cast<std::int32_t*>(hidden + rows * job.width);
        return true;
    }
};

// The largest of h + bias, which are written to `mean`.
template <class T>
HL_INLINE double add_bias(const T* logits, const T* bias, std::int64_t columns, double* mean) {
    f64v top = broadcast<f64v>(-1.7976931348623157e308);
    std::int64_t j = 0;
    for (; j + count_lanes <= columns; j += count_lanes) {
        f64v h = load_widened(logits + j);
        if (bias != nullptr) h = h + load_widened(bias + j);
        store(mean + j, h);
        top = h > top ? h : top;
    }
    double largest = top[0];
    for (int lane = 1; lane < count_lanes; ++lane)
        largest = top[lane] > largest ? top[lane] : largest;
    for (; j < columns; ++j) {
        const double h = static_cast<double>(logits[j]);
        mean[j] = bias != nullptr ? h + static_cast<double>(bias[j]) : h;
        largest = mean[j] > largest ? mean[j] : largest;
    }
    return largest;
}

// exp(h - largest) in place; returns the sum, in a fixed order.
HL_INLINE double exponentials(double* mean, std::int64_t columns, double largest) {
    f64v sums{};
    std::int64_t j = 0;
    for (; j + count_lanes <= columns; j += count_lanes) {
        const f64v e = exp_or_zero(f64v(load<f64v>(mean + j) - largest));
        store(mean + j, e);
        sums += e;
    }
    double sum = 0.0;
    for (int lane = 0; lane < count_lanes; ++lane)
        sum += sums[lane];
    for (; j < columns; ++j) {
        mean[j] = exp_or_zero(mean[j] - largest);
        sum += mean[j];
    }
    return sum;
}

// From logits to mu or probabilities in `mean`; false when a logit is not finite.
template <class T>
HL_INLINE bool find_means(const DecodeJob<T>& job, std::int64_t row, const T* logits,
                          double* mean) {
    const double largest = add_bias(logits, job.bias, job.columns, mean);
    double total = 0.0;
    if (job.head == CountHead::bernoulli) {
        for (std::int64_t j = 0; j < job.columns; ++j) {
            total += mean[j] - mean[j];
            mean[j] = sigmoid(mean[j]);
        }
        return total == 0.0;
    }
    total = exponentials(mean, job.columns, largest);
    if (!(total > 0.0 && total < 0x1p1000)) return false;
    const double scale = job.sizes[row] / total;
    for (std::int64_t j = 0; j < job.columns; ++j)
        mean[j] *= scale;
    return true;
}

template <class T>
HL_INLINE void draw_row(const DecodeJob<T>& job, Chunk& chunk, std::int64_t row, const double* mean,
                        std::int32_t* counts) {
    const std::int64_t theta_row = job.theta_of != nullptr ? job.theta_of[row] : 0;
    const CountParameter<double> first{mean, 0, 1};
    const CountParameter<double> theta{
        job.theta != nullptr ? job.theta + theta_row * job.columns : nullptr, 0, 1};
    chunk.at.row = static_cast<std::uint64_t>(job.first_row + row);
    for (chunk.begin = 0; chunk.begin < job.columns; chunk.begin += chunk_columns) {
        chunk.count = smaller(chunk_columns, job.columns - chunk.begin);
        std::int32_t* const out = counts + chunk.begin;
        load_parameter(first, 0, chunk, 0.0, chunk.first);
        switch (job.head) {
            case CountHead::negative_binomial:
                load_parameter(theta, 0, chunk, 1.0, chunk.second);
                draw_counts<NegativeBinomialLaw>(chunk, out);
                break;
            case CountHead::poisson:
                draw_counts<PoissonLaw>(chunk, out);
                break;
            case CountHead::bernoulli:
                draw_bernoulli(chunk, out);
                break;
        }
    }
}

HL_INLINE bool reserve(CountBlock& block, std::int64_t more) {
    if (block.size + more <= block.capacity) return true;
    const std::int64_t capacity = larger(2 * block.capacity, block.size + more);
    const auto bytes = static_cast<std::size_t>(capacity) * sizeof(std::int32_t);
    void* const columns = std::realloc(block.columns, bytes);
    if (columns == nullptr) return false;
    block.columns = static_cast<std::int32_t*>(columns);
    void* const values = std::realloc(block.values, bytes);
    if (values == nullptr) return false;
    block.values = static_cast<std::int32_t*>(values);
    block.capacity = capacity;
    return true;
}

HL_INLINE void append(CountBlock& block, std::int64_t column, std::int32_t value) {
    block.columns[block.size] = static_cast<std::int32_t>(column);
    block.values[block.size++] = value;
}

// Appends the nonzeros of a row, which are found two columns a lane.
HL_INLINE bool append_nonzeros(CountBlock& block, const std::int32_t* counts,
                               std::int64_t columns) {
    if (!reserve(block, columns)) return false;
    std::int64_t j = 0;
    for (; j + 2 * count_lanes <= columns; j += 2 * count_lanes) {
        const u64v pairs = load<u64v>(counts + j);
        for (std::uint32_t bits = lane_bits(pairs != 0); bits != 0; bits &= bits - 1) {
            const std::int64_t first = j + 2 * __builtin_ctz(bits);
            for (std::int64_t column = first; column < first + 2; ++column)
                if (counts[column] != 0) append(block, column, counts[column]);
        }
    }
    for (; j < columns; ++j)
        if (counts[j] != 0) append(block, j, counts[j]);
    return true;
}

// The hidden rows of a block, at their places among 32; absent rows are zero.
template <class T>
HL_INLINE const T* place_rows(const DecodeJob<T>& job, std::int64_t begin, std::int64_t end,
                              std::int64_t first_place, T* buffer) {
    const T* const source = job.hidden + begin * job.width;
    if (end - begin == decode_block_rows) return source;
    const auto row_bytes = sizeof(T) * static_cast<std::size_t>(job.width);
    __builtin_memset(buffer, 0, row_bytes * decode_block_rows);
    __builtin_memcpy(buffer + first_place * job.width, source,
                     row_bytes * static_cast<std::size_t>(end - begin));
    return buffer;
}

// The logits of rows [begin, end), the first of which is at `first_place` of its block.
template <class T>
HL_INLINE const T* find_logits(const DecodeJob<T>& job, Scratch<T>& scratch, std::int64_t begin,
                               std::int64_t end, std::int64_t first_place) {
    if (job.weight == nullptr) return job.hidden + begin * job.columns;
    const T* const hidden = place_rows(job, begin, end, first_place, scratch.hidden);
    run_product(Product<T>{decode_block_rows, job.columns, job.width, hidden, job.width, 1,
                           job.weight, 1, job.width, scratch.logits, job.columns, false});
    return scratch.logits + first_place * job.columns;
}

template <class T>
HL_INLINE Status decode_block(const DecodeJob<T>& job, Scratch<T>& scratch, std::int64_t number,
                              std::int64_t begin, std::int64_t end, const T* logits) {
    Chunk chunk;
    chunk.at.key = philox_key(job.seed);
    chunk.at.step = job.step;
    for (std::int64_t row = begin; row < end; ++row, logits += job.columns) {
        if (!find_means(job, row, logits, scratch.mean))
            return Status::invalid_argument("count_decode: the logits are not finite", row);
        if (job.means != nullptr) {
            T* const out = job.means + row * job.columns;
            for (std::int64_t j = 0; j < job.columns; ++j)
                out[j] = static_cast<T>(scratch.mean[j]);
            continue;
        }
        std::int32_t* const counts =
            job.counts != nullptr ? job.counts + row * job.columns : scratch.counts;
        draw_row(job, chunk, row, scratch.mean, counts);
        if (job.blocks != nullptr) {
            CountBlock& block = job.blocks[number];
            const std::int64_t before = block.size;
            if (!append_nonzeros(block, counts, job.columns))
                return Status::out_of_memory("count_decode");
            job.row_counts[row] = block.size - before;
        }
        if (stop_requested()) return Status::interrupted("count_decode");
    }
    return Status::success();
}

template <class T>
Status decode_task(void* context, std::int64_t number) {
    const DecodeJob<T>& job = *static_cast<const DecodeJob<T>*>(context);
    Scratch<T> scratch;
    if (!scratch.allocate(job)) return Status::out_of_memory("count_decode");
    const std::int64_t before = job.first_row % decode_block_rows;
    const std::int64_t start = number * decode_block_rows - before;
    const std::int64_t begin = larger(start, 0);
    const std::int64_t end = smaller(start + decode_block_rows, job.rows);
    const T* const logits = find_logits(job, scratch, begin, end, begin - start);
    const Status status = decode_block(job, scratch, number, begin, end, logits);
    std::free(scratch.memory);
    if (!status.ok()) return status;
    return stop_requested() ? Status::interrupted("count_decode") : status;
}

template <class T>
Status run(const DecodeJob<T>& job) {
    return parallel_for(decode_blocks(job.first_row, job.rows), job.num_threads, decode_task<T>,
                        const_cast<DecodeJob<T>*>(&job));
}

}  // namespace

Status count_decode(const DecodeJob<float>& job) {
    return run(job);
}
Status count_decode(const DecodeJob<double>& job) {
    return run(job);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
