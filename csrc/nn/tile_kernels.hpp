// Batches of narrow networks in tiles of rows: what the driver takes.
#pragma once

#include "../core/status.hpp"
#include "program.hpp"

namespace hl {

template <class T>
struct NnTileJob {
    NnProgram program;
    const T* parameters;
    const T* buffers;
    const T* const* inputs;              // (rows, width) of each input slot
    const std::int32_t* const* indices;  // (rows,) of each index table
    std::int64_t num_indices, rows;
    NnOperand output;
    int training;  // else evaluation
    std::uint64_t seed;
    std::int64_t step;          // of dropout
    T* out;                     // (rows, output.width), or null
    const T* gradient;          // (rows, output.width): of the output; null for evaluation
    T* const* input_gradients;  // (rows, width) of each input slot, or null
    T* parameter_gradient;      // (num_parameters,)
    T* partial_gradients;       // (nn_tiles(rows), num_parameters)
    int num_threads;
};

constexpr std::int64_t nn_tile_rows = 64;

constexpr std::int64_t nn_tiles(std::int64_t rows) {
    return (rows + nn_tile_rows - 1) / nn_tile_rows;
}

struct NnTileTable {
    Status (*f32)(const NnTileJob<float>& job);
    Status (*f64)(const NnTileJob<double>& job);
};

}  // namespace hl
