// A network is a program: instructions over slots. A slot is a matrix (rows, width) and is written
// by one instruction or by several that fill different columns; the first slots are the inputs.
// Backward passes run the instructions in reverse, each by its own hand-derived rule.
//
// The Python side makes programs (hotloops.nn), checks them once, and hands over the same fields in
// the same order as rows of an int64 matrix and of a float64 matrix.
#pragma once

#include <cstdint>

#include "../core/config.hpp"

namespace hl {

// The numbers are shared with python/hotloops/nn/_program.py.
enum class NnOperation : std::int64_t {
    dense = 0,           // y = f(x W^T + b + addend), W (out, in) row-major
    sparse_dense = 1,    // the same with x a CSR table and W (in, out) row-major
    activation = 2,      // y = f(x)
    batch_norm = 3,      // y = f(gamma (x - mean) / sqrt(variance + eps) + beta), per column
    layer_norm = 4,      // the same, per row
    dropout = 5,         // y = x mask / (1 - p); y = x when it isn't training
    embedding = 6,       // y = row of the table (K, width) + addend; index -1 adds nothing
    time_embedding = 7,  // y = [sin(c x f_j), cos(c x f_j)], f_j = 10000^(-j / (width / 2 - 1))
};

enum class NnActivation : std::int64_t {
    identity = 0,
    relu = 1,
    elu = 2,  // alpha = 1
    silu = 3,
    gelu = 4,  // x (1 + erf(x / sqrt 2)) / 2
    tanh = 5,
    sigmoid = 6,
    softplus = 7,
};

// The columns [begin, begin + width) of a slot; slot -1 is nothing.
struct NnOperand {
    std::int64_t slot, begin, width;
};

struct NnInstruction {
    std::int64_t operation;  // NnOperation
    NnOperand input;  // sparse_dense: slot is the number of the CSR table, begin 0, width its
                      // columns; embedding: slot is the number of the index table, width K
    NnOperand output;
    NnOperand addend;     // has the output's width
    NnOperand pre;        // where f's argument is kept for the backward pass, when the slope needs
                          // it (silu, gelu) and f isn't an activation of its own; else nothing
    std::int64_t weight;  // offset into the parameters: W, gamma or the table; -1 for none
    std::int64_t bias;    // offset into the parameters: b or beta; -1 for none
    std::int64_t activation;  // NnActivation
    std::int64_t buffer;      // batch_norm: offset into the buffers of the running means, which the
                              // running variances follow; dropout: number of the layer; else -1
    double constants[2];      // norms: eps, momentum; dropout: p; time_embedding: c
};

constexpr int nn_instruction_integers = 17;  // the members above in their order, without constants
constexpr int nn_instruction_reals = 2;

enum class NnLossKind : std::int64_t {
    mean_squared = 0,          // mean over rows and columns of (h - y)^2
    cross_entropy = 1,         // mean over rows of -log softmax(h)[label]
    binary_cross_entropy = 2,  // Bernoulli with logits h: mean over rows of the sum over columns
    negative_binomial = 3,     // mu = L softmax(h): mean over rows of -sum over columns of log p
    poisson = 4,               // the same with rate L softmax(h)
    huber = 5,                 // mean over rows and columns, delta = constant
};

struct NnLoss {
    std::int64_t kind;  // NnLossKind
    NnOperand logits;
    std::int64_t target;  // number of the dense table (mean_squared, huber, binary_cross_entropy),
                          // the index table (cross_entropy) or the CSR table (counts)
    std::int64_t
        sparse;  // 1 when the target is a CSR table (binary_cross_entropy on peaks, counts)
    std::int64_t log_theta;  // negative_binomial: offset into the parameters, (1 or K, width)
    std::int64_t group;      // number of the index table that picks the row of log_theta, or -1
    double constant;         // huber: delta
    double weight;           // of this loss in the sum
};

constexpr int nn_loss_integers = 8;
constexpr int nn_loss_reals = 2;

struct NnProgram {
    const NnInstruction* instructions;
    std::int64_t num_instructions;
    const std::int64_t* widths;  // of the slots
    std::int64_t num_slots, num_inputs;
    std::int64_t num_parameters, num_buffers;
};

// What a program reads. Row r of a batch is row rows[r] of every table, or r where rows is null.
template <class T>
struct NnSparse {
    const std::int64_t* indptr;
    const std::int32_t* indices;
    const T* values;
    std::int64_t columns;
    std::int64_t
        transform;    // 0: as it is; 1: log1p(x); 2: x / total; 3: log1p(x / total); 4: x > 0
    const T* totals;  // per row of the table: the sum of its values (transforms 2, 3, counts)
};

template <class T>
struct NnTables {
    const T* const* dense;  // one for each input slot, then the dense targets
    std::int64_t num_dense;
    const NnSparse<T>* sparse;
    std::int64_t num_sparse;
    const std::int32_t* const* indices;
    std::int64_t num_indices;
    const std::int64_t* rows;
};

}  // namespace hl
