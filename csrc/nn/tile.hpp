// Networks on one tile of rows: for networks so narrow that a tile of every slot stays in the cache
// and a product is too small for BLAS.
//
// A slot lies feature-major: column j of slot s is slots[s] + j * stride, one value for each row of
// the tile. Every output of every product is one sum in the order of its inner index, so that a
// row's bits depend neither on the rows beside it nor on the size of the tile. Products are fused
// (class B: the base level has no multiply-add).
#pragma once

#include "program.hpp"
#include "tile_transpose.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// The rows of a tile in memory: 64, or 32 or 16 where there are few rows.
constexpr std::int64_t max_tile_rows = 64;
constexpr std::int64_t min_tile_rows = 16;

template <class T>
struct NnTile {
    const T* parameters;
    const T* buffers;
    T* const* slots;  // aligned to 64 bytes
    // Null, or for each slot: 0 when its columns are one value for all rows, else `stride`. Only
    // addends may have 0.
    const std::int64_t* slot_strides;
    const std::int32_t* const* indices;  // for each index table: the index of each row of the tile
    std::int64_t stride;                 // 16, 32 or 64; rows that are not there hold zeros
    T* scratch;                          // tile_scratch(widest slot) values, aligned to 64 bytes
};

constexpr std::int64_t tile_scratch(std::int64_t widest) {
    return (2 * max_tile_rows + 16) * (widest + 64);
}

// Whether the tile executor knows the program; `training` is stricter than evaluation.
bool tile_supports(const NnProgram& program, bool training);

// One instruction with running statistics and without dropout.
void tile_forward(const NnTile<float>& tile, const NnInstruction& instruction);
void tile_forward(const NnTile<double>& tile, const NnInstruction& instruction);

// The dropout of a training pass: the mask of row r of the tile is that of row first_row + r.
struct NnTileDropout {
    std::uint64_t seed;
    std::int64_t step, first_row;
};

// All instructions of a training pass, in order.
void tile_forward(const NnTile<float>& tile, const NnProgram& program,
                  const NnTileDropout& dropout);
void tile_forward(const NnTile<double>& tile, const NnProgram& program,
                  const NnTileDropout& dropout);

// The way back through a training pass. gradients[s] is the gradient of slot s, laid out like the
// slot: zeros but where a loss has put its gradient, and zeros in rows that are not there; null
// where it isn't wanted. The tile's share of the gradient of the parameters is added to
// `parameter_gradient`.
void tile_backward(const NnTile<float>& tile, const NnProgram& program,
                   const NnTileDropout& dropout, float* const* gradients,
                   float* parameter_gradient);
void tile_backward(const NnTile<double>& tile, const NnProgram& program,
                   const NnTileDropout& dropout, double* const* gradients,
                   double* parameter_gradient);

// Rows of a row-major matrix to the columns of a tile and back. Row r of the tile is row rows[r]
// of the matrix, or first + r where rows is null; rows from `count` on become zeros.
template <class T>
HL_INLINE void tile_load(const T* source, std::int64_t source_width, const std::int64_t* rows,
                         std::int64_t first, std::int64_t count, std::int64_t width, T* target,
                         std::int64_t stride) {
    constexpr std::int64_t lanes = tile_lanes<T>;
    const auto row_of = [&](std::int64_t r) {
        return source + (rows == nullptr ? first + r : rows[r]) * source_width;
    };
    std::int64_t r = 0;
    for (; width >= 4 && r + lanes <= count; r += lanes) {
        const T* pack[lanes];
        for (std::int64_t k = 0; k < lanes; ++k)
            pack[k] = row_of(r + k);
        rows_to_columns(pack, width, target + r, stride);
    }
    for (; r < stride; ++r) {
        for (std::int64_t j = 0; j < width; ++j)
            target[j * stride + r] = r < count ? row_of(r)[j] : T(0);
    }
}

template <class T>
HL_INLINE void tile_store(const T* source, std::int64_t stride, const std::int64_t* rows,
                          std::int64_t first, std::int64_t count, std::int64_t width, T* target,
                          std::int64_t target_width) {
    columns_to_rows(source, stride, count, width, [&](std::int64_t r) {
        return target + (rows == nullptr ? first + r : rows[r]) * target_width;
    });
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
