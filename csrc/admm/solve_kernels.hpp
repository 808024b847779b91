// What the drivers of admm.solve take. Shared by every instruction-set level and the binding.
#pragma once

#include <cstdint>

#include "../core/status.hpp"

namespace hl {

enum class AdmmLoss : std::int32_t {
    squares = 0,
    logistic = 1,
    squared_hinge = 2,
    huber_hinge = 3,
    huber = 4,
    poisson = 5,
    quantile = 6,
    softmax = 7,
};

enum class AdmmScheme : std::int32_t { identity = 0, diag = 1, adagrad = 2, rmsprop = 3, adam = 4 };

enum class AdmmActivation : std::int32_t { relu = 0, tanh = 1, gelu = 2 };

enum class AdmmSampling : std::int32_t { full = 0, replacement = 1, epoch = 2 };

// The rows of one client. They lie in a matrix that clients may share: row `rows[j]` is the
// client's row j, or row j itself when `rows` is null.
template <class T>
struct AdmmRows {
    const T* dense;               // row-major; null for CSR
    const std::int64_t* indptr;   // CSR
    const std::int32_t* indices;  // CSR
    const T* values;              // CSR; null when all of them are 1
    const T* targets;             // (matrix rows, targets of a row)
    const std::int32_t* labels;   // for softmax
    const T* weights;             // null when all of them are 1
    const std::int64_t* rows;
    std::int64_t count;
    // A matrix of ones by tiles of 16 rows: entries tile_offsets[t] and on are the columns of tile
    // t, in rising order, and for each a bit for every row that has it. Null without tiles.
    const std::int64_t* tile_offsets;
    const std::int32_t* tile_columns;
    const std::uint16_t* tile_masks;
};

constexpr std::int64_t admm_tile_rows = 16;

// A linear model has the layers (columns, outputs); its parameters are a weight matrix, row-major
// in the columns, and then the intercepts. A network stacks such layers.
struct AdmmModel {
    const std::int64_t* layers;  // (num_layers + 1,) widths
    std::int64_t num_layers;
    std::int64_t dim;  // parameters
    AdmmLoss loss;
    AdmmActivation activation;
    bool intercept;
    double shape[2];
};

struct AdmmBatch {
    AdmmSampling sampling;
    std::int64_t size;
    std::uint64_t seed;
    std::int64_t round;
};

// Work is cut into tasks (client, first position, last position) that do not depend on the number
// of threads. Each has a gradient of its own, which the local step adds up in order.
template <class T>
struct AdmmGradient {
    const AdmmRows<T>* clients;
    AdmmModel model;
    AdmmBatch batch;
    const std::int64_t* tasks;   // (num_tasks, 3)
    const std::uint8_t* active;  // (clients,), null: all
    std::int64_t num_tasks;
    const T* w;             // (dim,), or (clients, dim)
    std::int64_t w_stride;  // 0 or dim
    T* partials;            // (num_tasks, dim) sums over the rows of a task, null: values only
    double* values;         // (num_tasks,) sums of the losses, null: gradients only
    // 0: gradients. Else partials take the slopes of the rows instead, so many for each task.
    std::int64_t slope_stride;
    int num_threads;
};

// One round after the gradients: local steps, duals, and the next global point.
template <class T>
struct AdmmRound {
    const T* partials;           // as above
    const std::int64_t* tasks;   // (num_tasks, 3), in order of clients
    const std::uint8_t* active;  // (clients,), null: all
    std::int64_t num_tasks, num_clients, dim;
    const double* scale;  // (clients,) what turns the sum over a client's rows into the mean
    const double *alpha, *sigma, *rho;  // (clients,)
    AdmmScheme scheme;
    double beta, correction, eps, cap;
    double relaxation;       // 1: none; otherwise `local` is needed
    double l2;               // on the first `penalised` parameters
    std::int64_t penalised;  // those behind are intercepts
    T* w;                    // (dim,) the global point, replaced
    T* dual;                 // (clients, dim)
    T* second;               // (clients, dim) second moments, or the diagonal; null for identity
    T* local;                // (clients, dim) w_i; null unless somebody has to remember them
    T* gradient;             // (clients, dim) out, null: not wanted
    double* sums;            // (slices, 6) out, see cpu_solve_round.cpp
    bool optimistic;         // see step_local.hpp; CPUs have admm_optimistic_round for it
    int num_threads;
};

// Duals that are not zero, in order of parameters and, for each, of clients.
template <class T>
struct AdmmDualList {
    std::int64_t* parameters;
    std::int32_t* clients;
    T* values;
    std::int64_t count;
};

template <class T>
struct AdmmDuals {
    const AdmmDualList<T>& before;
    AdmmDualList<T>& now;  // out, room for the entries of a batch
};

constexpr std::int64_t admm_slice = 4096;  // parameters that one task of a round moves
constexpr int admm_num_sums = 6;

template <class T>
struct AdmmSolveKernels {
    Status (*gradient)(const AdmmGradient<T>&);
    Status (*round)(const AdmmRound<T>&);
    // From slopes to the next global point and duals.
    Status (*optimistic_round)(const AdmmGradient<T>&, const AdmmRound<T>&, const AdmmDuals<T>&);
};

struct AdmmSolveTable {
    AdmmSolveKernels<float> f32;
    AdmmSolveKernels<double> f64;
};

}  // namespace hl
