// Counts in bulk: what the drivers take and which ones there are.
#pragma once

#include <cstdint>

#include "../core/status.hpp"

namespace hl {

// A parameter of shape (rows, columns), any axis of which may be shared: its stride is 0 then. The
// stride of columns is 0 or 1.
template <class T>
struct CountParameter {
    const T* data;
    std::int64_t row_stride, column_stride;
};

// Variates for rows x columns. `numbers` are the global numbers of the rows; null stands for
// first_row, first_row + 1, ...
template <class T>
struct CountJob {
    std::int64_t rows, columns;
    CountParameter<T> first;   // mu, rate, alpha or probability
    CountParameter<T> second;  // theta or scale
    std::uint64_t seed;
    std::int64_t step;
    const std::int64_t* numbers;
    std::int64_t first_row;
    int num_threads;
};

// log p, and its derivatives by log mu and log theta where they are not null.
template <class T>
struct LikelihoodJob {
    std::int64_t rows, columns;
    CountParameter<T> counts, mu, theta;
    T* value;
    T* mu_slope;
    T* theta_slope;
    int num_threads;
};

enum class CountHead : std::int32_t { negative_binomial = 0, poisson = 1, bernoulli = 2 };

// The counts of a block of rows, as their nonzeros: `row_counts` of the job says how many each row
// has. The arrays are of malloc.
struct CountBlock {
    std::int32_t* columns;
    std::int32_t* values;
    std::int64_t size, capacity;
};

constexpr std::int64_t decode_block_rows = 32;

// Blocks of 32 rows that begin where the row's number is a multiple of 32, so that a row is at the
// same place of the same product in any batch.
constexpr std::int64_t decode_blocks(std::int64_t first_row, std::int64_t rows) {
    const std::int64_t before = first_row % decode_block_rows;
    return (before + rows + decode_block_rows - 1) / decode_block_rows;
}

// Counts of the law that a decoder's last layer gives: logits h = weight hidden + bias, and mu =
// size softmax(h), or probabilities sigmoid(h). One of `counts`, `means` and `blocks` is not null.
template <class T>
struct DecodeJob {
    CountHead head;
    std::int64_t rows, width, columns;
    const T* hidden;               // (rows, width); the logits themselves without a weight
    const T* weight;               // (columns, width)
    const T* bias;                 // (columns,) or null
    const double* sizes;           // (rows,), null for Bernoulli
    const double* theta;           // (theta rows, columns), null for others than negative binomial
    const std::int64_t* theta_of;  // (rows,) the row of theta, null when there is one
    std::uint64_t seed;
    std::int64_t step, first_row;
    std::int32_t* counts;      // (rows, columns)
    T* means;                  // (rows, columns)
    CountBlock* blocks;        // (decode_blocks,)
    std::int64_t* row_counts;  // (rows,)
    int num_threads;
};

template <class T>
struct CountKernels {
    Status (*negative_binomial)(const CountJob<T>&, std::int32_t* out);
    Status (*poisson)(const CountJob<T>&, std::int32_t* out);
    Status (*bernoulli)(const CountJob<T>&, std::int32_t* out);
    Status (*gamma)(const CountJob<T>&, T* out);
    Status (*likelihood)(const LikelihoodJob<T>&);
    Status (*decode)(const DecodeJob<T>&);
};

struct CountTable {
    CountKernels<float> f32;
    CountKernels<double> f64;
};

}  // namespace hl
