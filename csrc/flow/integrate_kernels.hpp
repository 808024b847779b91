// Integration of velocity fields: what the driver takes.
#pragma once

#include <cstdint>

#include "../core/status.hpp"
#include "../nn/program.hpp"

namespace hl {

template <class T>
using FlowFunction = void (*)(std::int64_t n, std::int64_t d, const T* z, const T* t,
                              const std::int64_t* labels, T* out, void* user);

// Where the columns of a slot lie while a network is evaluated.
enum class FlowHome : std::int64_t {
    given = 0,   // an input of the network
    shared = 1,  // what doesn't depend on the labels
    branch = 2,  // what does, once for each branch
    table = 3,   // tabulated, one value for all rows of a tile with the same labels
    spread = 4,  // tabulated, but written to the rows of the tile
};

struct FlowSlot {
    std::int64_t width;
    FlowHome home;
    std::int64_t column;  // where it begins in its home
    std::int64_t made;    // where it begins among the columns from which the table is made, or -1
};

// How often an instruction runs, in the order in which they are listed.
enum class FlowPhase : int { table, once_shared, once_branch, shared, branch, count };

// A network, split into what depends on the state and what doesn't (see plan.hpp).
struct FlowPlan {
    const NnInstruction* instructions;
    std::int64_t phases[static_cast<int>(FlowPhase::count) + 1];  // where each begins
    const FlowSlot* slots;
    std::int64_t num_slots, num_inputs, num_indices;
    std::int64_t shared_columns, branch_columns, table_columns, made_columns;
    std::int64_t widest;
    NnOperand output;
};

template <class T>
struct FlowVelocity {
    FlowFunction<T> function;  // or null: a network
    void* user;
    FlowPlan plan;
    const T* parameters;
    const T* buffers;
    const T* const* inputs;  // (n, width) for each dense input of the network behind z and t
};

enum class FlowControl : int { fixed = 0, row = 1, batch = 2 };

template <class T>
struct FlowIntegrate {
    FlowVelocity<T> velocity;
    T* z;  // (n, d)
    std::int64_t n, d;
    const double* grid;
    std::int64_t grid_size;
    const std::int64_t* keep;  // fixed steps: the place in `kept` of each time of the grid, or -1
    const double* kept_times;
    std::int64_t num_kept;
    T* kept;
    int method;
    FlowControl control;
    T rtol, atol;
    std::int64_t max_steps;
    std::int64_t branches, attributes;
    const T* weights;            // of branches 1, 2, ...
    std::int64_t weight_stride;  // from branch to branch: n, or 1 where all rows share them
    bool row_weights;
    const std::int32_t* combinations;  // (num_combinations, attributes): labels that occur
    std::int64_t num_combinations;
    const std::int32_t* combination_of;  // (branches, n)
    const std::int64_t* order;           // rows, those with the same labels side by side
    std::int64_t* evaluations;           // (n,) each
    std::int64_t* accepted;
    std::int64_t* rejected;
    int num_threads;
};

// What Status::detail says of an integration that failed with Code::numerical.
constexpr std::int32_t flow_not_finite = 1, flow_max_steps = 2;

template <class T>
using FlowIntegrateKernel = Status (*)(const FlowIntegrate<T>& call);

struct FlowIntegrateTable {
    FlowIntegrateKernel<float> f32;
    FlowIntegrateKernel<double> f64;
};

}  // namespace hl
