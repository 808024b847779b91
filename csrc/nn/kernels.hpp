// Small networks: what the drivers take and which ones there are.
#pragma once

#include "../core/status.hpp"
#include "program.hpp"

namespace hl {

// What the backward pass of an instruction owes: which gradients are needed, and which of them are
// added to what is there because something else contributes too.
struct NnDuty {
    bool needs_input, needs_addend;
    bool adds_input, adds_addend;
    bool adds_weight, adds_bias;
};

struct NnRange {
    std::int64_t begin, end;
};

// A program together with the order in which gradients meet.
struct NnPlan {
    NnProgram program;
    const NnDuty* duties;               // of the instructions
    const std::int64_t* cleared_slots;  // whose gradients start from 0
    std::int64_t num_cleared_slots;
    const NnRange* cleared_parameters;  // that no instruction writes the gradient of
    std::int64_t num_cleared_parameters;
};

// The rows of a batch of one CSR table: transformed values row by row, and the same column by
// column. `capacity` is how many values there is room for.
template <class T>
struct NnEntries {
    std::int64_t* row_begin;     // (rows + 1)
    T* values;                   // (capacity)
    std::int64_t* column_begin;  // (columns + 1)
    std::int32_t* rows;          // (capacity)
    T* column_values;            // (capacity)
    std::int64_t capacity;
};

// The memory of one batch, allocated once.
template <class T>
struct NnArena {
    std::int64_t capacity;        // rows
    T* const* values;             // of each slot: (capacity, width)
    T* const* gradients;          // the same; null where none is needed
    double* const* statistics;    // of each instruction; see nn_statistics
    const NnEntries<T>* entries;  // of each instruction; of a sparse_dense only
};

// How many numbers an instruction keeps from the forward for the backward pass: norms the means and
// the inverse deviations, time embeddings their frequencies.
inline std::int64_t nn_statistics(const NnInstruction& instruction, std::int64_t rows) {
    switch (static_cast<NnOperation>(instruction.operation)) {
        case NnOperation::batch_norm:
            return 2 * instruction.output.width;
        case NnOperation::layer_norm:
            return 2 * rows;
        case NnOperation::time_embedding:
            return instruction.output.width / 2;
        default:
            return 0;
    }
}

template <class T>
struct NnPass {
    NnPlan plan;
    NnArena<T> arena;
    NnTables<T> tables;
    const T* parameters;
    T* parameter_gradient;  // backward
    T* buffers;
    std::int64_t rows;
    std::uint64_t seed;
    std::int64_t step;  // of dropout
    int training;
    int num_threads;
};

// One loss on one batch. Row r of the targets is row table_rows[r], or r.
template <class T>
struct NnLossJob {
    NnLossKind kind;
    const T* logits;
    std::int64_t stride, rows, width;
    const T* dense_target;      // (.., width)
    const NnSparse<T>* counts;  // instead of it
    const std::int32_t* labels;
    const std::int64_t* table_rows;
    const T* log_theta;  // (groups, width)
    std::int64_t num_groups;
    const std::int32_t* groups;  // null: all rows take the first
    double constant, weight;
    T* gradient;  // null: the loss alone
    std::int64_t gradient_stride;
    int adds;               // to what is in `gradient`
    T* log_theta_gradient;  // added to
    double* row_losses;     // (rows,) before the mean over the batch, without the weight
    T* scratch;             // nn_loss_scratch elements
    int num_threads;
    std::int64_t mean_rows;  // the gradient is that of the sum over these rows over so many
};

constexpr std::int64_t nn_loss_rows = 8;  // of one task

inline std::int64_t nn_loss_scratch(NnLossKind kind, std::int64_t rows, std::int64_t width,
                                    std::int64_t groups) {
    const std::int64_t tasks = (rows + nn_loss_rows - 1) / nn_loss_rows;
    const std::int64_t elements = kind == NnLossKind::negative_binomial ? 2 * groups + rows : 0;
    return (elements + 3 * tasks) * width;
}

enum class NnOptimizerKind : std::int64_t {
    adam = 0,   // decay is added to the gradient
    adamw = 1,  // decay shrinks the parameters
};

struct NnOptimizer {
    NnOptimizerKind kind;
    double beta1, beta2, eps, weight_decay;
    double clip_norm;         // 0: no clipping
    double ema_decay;         // 0: no average
    const NnRange* no_decay;  // ascending and disjoint
    std::int64_t num_no_decay;
};

template <class T>
struct NnState {
    T* parameters;
    T* first_moment;
    T* second_moment;
    T* average;  // null without ema_decay
};

template <class T>
struct NnUpdateJob {
    NnOptimizer optimizer;
    NnState<T> state;
    const T* gradient;
    std::int64_t count;
    double learning_rate;
    std::int64_t step;     // counts from 1
    double* partial_sums;  // nn_update_tasks(count)
    double* norm;          // out: of the gradient before the clip
    int num_threads;
};

constexpr std::int64_t nn_update_elements = 1 << 14;  // of one task

inline std::int64_t nn_update_tasks(std::int64_t count) {
    return (count + nn_update_elements - 1) / nn_update_elements;
}

// Fills rows [begin, end) of the batch of `step`: the input slots, then the dense targets; and the
// index tables. It is called from several threads, and what it writes must depend on its arguments
// alone. It returns 0, or a number that the caller is told.
template <class T>
using NnPrepare = std::int32_t (*)(void* context, std::int64_t step, std::int64_t begin,
                                   std::int64_t end, T* const* dense, std::int32_t* const* indices);

constexpr std::int64_t nn_prepare_rows = 64;

// Room to train a narrow network tile by tile. Per tile: every slot and its gradient, the scratch
// of losses and of products; and the tile's share of the gradient.
template <class T>
struct NnTileRoom {
    T* memory;  // null: layer by layer
    std::int64_t elements;
    T* partial_gradients;                 // (tiles, num_parameters)
    T** pointers;                         // (tiles, 2 num_slots)
    std::int32_t* labels;                 // (tiles, num_indices, nn_tile_rows)
    const std::int32_t** label_pointers;  // (tiles, num_indices)
    std::int64_t loss_scratch;            // elements of the memory
};

template <class T>
struct NnTrainJob {
    NnPass<T> pass;  // its tables are whole; rows is the size of a batch, step the first
    const NnLoss* losses;
    std::int64_t num_losses;
    const std::int64_t* num_groups;  // of each loss
    const int* loss_adds;            // of each loss: NnLossJob::adds
    NnOptimizer optimizer;
    NnState<T> state;
    std::int64_t num_table_rows, num_steps;
    const double* learning_rates;  // (num_steps,)
    std::int64_t* batch_rows;      // (num_table_rows,) room for the order of an epoch
    NnPrepare<T> prepare;          // null: rows of the tables
    void* context;
    T* const* prepared;  // what it fills: dense tables
    std::int32_t* const* prepared_indices;
    double* row_losses;  // (num_losses, loss_stride)
    std::int64_t loss_stride;
    NnTileRoom<T> tiles;
    T* loss_scratch;
    double* partial_sums;
    double* step_losses;  // (num_steps, num_losses) out, weights left out
    double* norms;        // (num_steps,) out: of the gradients
    std::int64_t* steps_done;
};

// Columns of a slot, copied to a matrix of their own.
template <class T>
struct NnRead {
    const T* from;
    std::int64_t stride, rows, width;
    T* out;
    int num_threads;
};

template <class T>
struct NnDrivers {
    Status (*forward)(const NnPass<T>&);
    Status (*backward)(const NnPass<T>&);
    Status (*loss)(const NnLossJob<T>&);
    Status (*update)(const NnUpdateJob<T>&);
    Status (*train)(const NnTrainJob<T>&);
    // A forward pass in evaluation mode, then row_losses (losses, num_table_rows) of its rows.
    Status (*evaluate)(const NnTrainJob<T>&);
    // f(x), or its slope, of every element: mode 0 or 1.
    Status (*activation)(NnActivation kind, const T* x, T* out, std::int64_t count, int mode,
                         int num_threads);
    Status (*read)(const NnRead<T>&);
};

struct NnTable {
    NnDrivers<float> f32;
    NnDrivers<double> f64;
    // Whether a training pass can go tile by tile, and the scratch elements that a tile needs.
    bool (*tiles_supported)(const NnProgram& program);
    std::int64_t (*tile_scratch)(std::int64_t widest);
};

}  // namespace hl
