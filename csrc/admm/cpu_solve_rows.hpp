// Chunks of rows: which rows they are, and the products of a row with a weight vector.
#pragma once

#include "../core/interrupt.hpp"
#include "cpu_solve.hpp"
#include "step_losses.hpp"
#include "step_sampling.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace admm {

constexpr std::int64_t chunk_rows = 64;
// A dense row's product is summed in this many strands at every level.
constexpr std::int64_t num_strands = 16;

// Which rows of the client the positions of a mini-batch are.
template <class T>
HL_NOINLINE static void draw_rows(const RowsTask<T>& task, std::int64_t first, std::int64_t count,
                                  std::int64_t* positions) {
    const AdmmBatch& batch = task.call.batch;
    const std::int64_t size = task.client.count;
    const PhiloxKey key = philox_key(batch.seed);
    if (batch.sampling == AdmmSampling::replacement) {
        for (std::int64_t j = 0; j < count; ++j)
            positions[j] = sample_row(key, batch.round, task.client_index, first + j, size);
        return;
    }
    EpochPermutation permutation{{}, 0, 0};
    std::int64_t prepared = -1;
    for (std::int64_t j = 0; j < count; ++j) {
        const std::int64_t drawn = batch.round * batch.size + first + j;
        const std::int64_t epoch = drawn / size;
        if (epoch != prepared) {
            permutation = EpochPermutation::prepare(key, epoch, task.client_index, size);
            prepared = epoch;
        }
        positions[j] = permutation(drawn - epoch * size);
    }
}

// The matrix rows of positions first .. first + count - 1 of a task.
template <class T>
HL_INLINE void find_rows(const RowsTask<T>& task, std::int64_t first, std::int64_t count,
                         std::int64_t* ids) {
    const std::int64_t* rows = task.client.rows;
    if (task.call.batch.sampling == AdmmSampling::full) {
        for (std::int64_t j = 0; j < count; ++j)
            ids[j] = rows == nullptr ? first + j : rows[first + j];
        return;
    }
    draw_rows(task, first, count, ids);
    if (rows == nullptr) return;
    for (std::int64_t j = 0; j < count; ++j)
        ids[j] = rows[ids[j]];
}

// The strands folded in halves: (s0 + s8) + ...
template <class T>
HL_INLINE T fold_strands(T* s) {
    for (std::int64_t width = num_strands / 2; width > 0; width /= 2) {
        for (std::int64_t k = 0; k < width; ++k)
            s[k] = s[k] + s[k + width];
    }
    return s[0];
}

// Products of `count` dense rows with w: their chains of additions run side by side.
template <int count, class T>
HL_INLINE void dense_products(const T* const* rows, const T* w, std::int64_t columns, T* z) {
    using V = typename PackOf<T>::Type;
    constexpr int lanes = LaneTraits<V>::lanes;
    constexpr int packs = static_cast<int>(num_strands) / lanes;
    V sums[count][packs] = {};
    const std::int64_t whole = columns / num_strands * num_strands;
    for (std::int64_t k = 0; k < whole; k += num_strands) {
        for (int p = 0; p < packs; ++p) {
            const V weight = load<V>(w + k + p * lanes);
            for (int r = 0; r < count; ++r)
                sums[r][p] += load<V>(rows[r] + k + p * lanes) * weight;
        }
    }
    for (int r = 0; r < count; ++r) {
        T strands[num_strands];
        __builtin_memcpy(strands, sums[r], sizeof strands);
        for (std::int64_t k = whole; k < columns; ++k)
            strands[k - whole] += rows[r][k] * w[k];
        z[r] = fold_strands(strands);
    }
}

// The product of a CSR row with w, in four strands.
template <class T>
HL_INLINE T sparse_product(const std::int32_t* indices, const T* values, std::int64_t count,
                           const T* w) {
    T a = 0, b = 0, c = 0, d = 0;
    std::int64_t k = 0;
    if (values == nullptr) {
        for (; k + 4 <= count; k += 4) {
            a += w[indices[k]];
            b += w[indices[k + 1]];
            c += w[indices[k + 2]];
            d += w[indices[k + 3]];
        }
        for (; k < count; ++k)
            a += w[indices[k]];
    } else {
        for (; k + 4 <= count; k += 4) {
            a += values[k] * w[indices[k]];
            b += values[k + 1] * w[indices[k + 1]];
            c += values[k + 2] * w[indices[k + 2]];
            d += values[k + 3] * w[indices[k + 3]];
        }
        for (; k < count; ++k)
            a += values[k] * w[indices[k]];
    }
    return (a + b) + (c + d);
}

template <class T>
HL_INLINE void add_sparse(const std::int32_t* indices, const T* values, std::int64_t count, T scale,
                          T* HL_RESTRICT target) {
    if (values == nullptr) {
        for (std::int64_t k = 0; k < count; ++k)
            target[indices[k]] += scale;
    } else {
        for (std::int64_t k = 0; k < count; ++k)
            target[indices[k]] += values[k] * scale;
    }
}

// x in the lanes first .. first + lanes - 1 of a tile that the mask names, else zero.
template <class V>
HL_INLINE V in_rows(V x, std::uint32_t mask, int first) {
    using Words = WordsOf<V>;
    Words bits;
    for (int lane = 0; lane < LaneTraits<V>::lanes; ++lane)
        bits[lane] = 1u << (first + lane);
    return ((Words{} + mask) & bits) != 0 ? x : V{};
}

// The products of the rows of a tile with w, each summed in the order of its columns.
template <class T>
HL_INLINE void tile_products(const AdmmRows<T>& rows, std::int64_t tile, const T* w, T* z) {
    using V = typename PackOf<T>::Type;
    constexpr int lanes = LaneTraits<V>::lanes;
    constexpr int packs = static_cast<int>(admm_tile_rows) / lanes;
    V sums[packs] = {};
    for (std::int64_t e = rows.tile_offsets[tile]; e < rows.tile_offsets[tile + 1]; ++e) {
        const V x = broadcast<V>(w[rows.tile_columns[e]]);
        for (int p = 0; p < packs; ++p)
            sums[p] += in_rows(x, rows.tile_masks[e], p * lanes);
    }
    __builtin_memcpy(z, sums, sizeof sums);
}

// Adds the slopes of a tile to the strands of its columns: row r goes to strand r mod 16.
template <class T>
HL_INLINE void add_tile(const AdmmRows<T>& rows, std::int64_t tile, const T* slope,
                        T* HL_RESTRICT columns) {
    using V = typename PackOf<T>::Type;
    constexpr int lanes = LaneTraits<V>::lanes;
    constexpr int packs = static_cast<int>(admm_tile_rows) / lanes;
    V own[packs];
    __builtin_memcpy(own, slope, sizeof own);
    for (std::int64_t e = rows.tile_offsets[tile]; e < rows.tile_offsets[tile + 1]; ++e) {
        T* const target = columns + rows.tile_columns[e] * admm_tile_rows;
        for (int p = 0; p < packs; ++p) {
            const V sum =
                load<V>(target + p * lanes) + in_rows(own[p], rows.tile_masks[e], p * lanes);
            __builtin_memcpy(target + p * lanes, &sum, sizeof sum);
        }
    }
}

}  // namespace admm
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
