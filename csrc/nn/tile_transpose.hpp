// Rows of a matrix to the columns of a tile and back, a pack of rows or of columns at a time.
#pragma once

#include "../core/pack_memory.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

template <class T>
constexpr int tile_lanes = LaneTraits<typename PackOf<T>::Type>::lanes;

// target[j * stride + r] = rows[r][j] for a pack of rows r, of at least four elements each.
template <class T>
HL_INLINE void rows_to_columns(const T* const* rows, std::int64_t width, T* target,
                               std::int64_t stride) {
    typename PackOf<T>::Type columns[4];
    for (std::int64_t next = 0; next < width; next += 4) {
        const std::int64_t j = next + 4 <= width ? next : width - 4;  // the last may come twice
        transpose_columns(rows, j, columns);
        for (int k = 0; k < 4; ++k)
            store(target + (j + k) * stride, columns[k]);
    }
}

// row_of(r)[j] = source[j * stride + r] for r in [0, count); source has whole fours of rows.
template <class T, class RowOf>
HL_INLINE void columns_to_rows(const T* source, std::int64_t stride, std::int64_t count,
                               std::int64_t width, const RowOf& row_of) {
    constexpr std::int64_t lanes = tile_lanes<T>;
    if (width < lanes) {
        for (std::int64_t r = 0; r < count; ++r) {
            T* const row = row_of(r);
            for (std::int64_t j = 0; j < width; ++j)
                row[j] = source[j * stride + r];
        }
        return;
    }
    typename PackOf<T>::Type parts[4];
    for (std::int64_t next = 0; next < width; next += lanes) {
        const std::int64_t j = next + lanes <= width ? next : width - lanes;
        const T* columns[lanes];
        for (std::int64_t k = 0; k < lanes; ++k)
            columns[k] = source + (j + k) * stride;
        for (std::int64_t r = 0; r < count; r += 4) {
            transpose_columns(columns, r, parts);
            for (std::int64_t k = 0; k < 4 && r + k < count; ++k)
                store(row_of(r + k) + j, parts[k]);
        }
    }
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
