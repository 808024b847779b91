// Matrix products c = a b or c += a b on fixed tiles of c, so that the bits don't depend on the
// number of threads. A tile goes to BLAS, single-threaded, or through the product here where it is
// too small for BLAS to pay. Class B: fused multiply-adds, and the order of sums is BLAS's own.
#pragma once

#include "../core/blas.hpp"
#include "cpu.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// Of each of a and b one stride is 1.
template <class T>
struct Product {
    std::int64_t rows, columns, depth;
    const T* a;  // a[i a_row + k a_depth]
    std::int64_t a_row, a_depth;
    const T* b;  // b[k b_depth + j b_column]
    std::int64_t b_depth, b_column;
    T* c;  // c[i c_row + j]
    std::int64_t c_row;
    bool accumulate;
};

// Tiles of at most this many multiplications are done here. With AVX-512, from 2^20 to 2^24, the
// product here and BLAS's were within a tenth of each other, and each the faster about as often
// (120 to 150 of 150 Gflop/s); above, BLAS is better prepared for caches of all sizes.
constexpr double blas_pays_above = 1 << 24;

constexpr std::int64_t depth_block = 256;
constexpr int product_packs = 3;
#if defined(HL_ISA_V4)
constexpr int product_rows = 8;
#else
constexpr int product_rows = 4;  // sixteen registers
#endif

template <class T>
constexpr std::int64_t panel_width = product_packs * LaneTraits<typename PackOf<T>::Type>::lanes;

// The panel [j, j + count) of b, [k, k + depth): row after row, filled up with zeros.
template <class T>
HL_INLINE void copy_panel(const Product<T>& p, std::int64_t k, std::int64_t depth, std::int64_t j,
                          std::int64_t count, T* HL_RESTRICT panel) {
    constexpr std::int64_t width = panel_width<T>;
    const T* const source = p.b + k * p.b_depth + j * p.b_column;
    if (count < width)
        __builtin_memset(panel, 0, sizeof(T) * static_cast<std::size_t>(depth * width));
    if (p.b_column == 1) {
        for (std::int64_t i = 0; i < depth; ++i)
            __builtin_memcpy(panel + i * width, source + i * p.b_depth,
                             sizeof(T) * static_cast<std::size_t>(count));
        return;
    }
    for (std::int64_t column = 0; column < count; ++column) {
        const T* const line = source + column * p.b_column;
        for (std::int64_t i = 0; i < depth; ++i)
            panel[i * width + column] = line[i];
    }
}

template <int count, class T>
HL_INLINE void product_block(const Product<T>& p, std::int64_t k, std::int64_t depth,
                             std::int64_t i, std::int64_t j, std::int64_t columns,
                             const T* HL_RESTRICT panel, bool adds) {
    using V = typename PackOf<T>::Type;
    constexpr int lanes = LaneTraits<V>::lanes;
    V sums[count][product_packs];
    for (int r = 0; r < count; ++r)
        for (int q = 0; q < product_packs; ++q)
            sums[r][q] = V{};
    const T* const a = p.a + i * p.a_row + k * p.a_depth;
    for (std::int64_t l = 0; l < depth; ++l) {
        V line[product_packs];
        for (int q = 0; q < product_packs; ++q)
            line[q] = load<V>(panel + l * panel_width<T> + q * lanes);
        for (int r = 0; r < count; ++r) {
            const V x = broadcast<V>(a[r * p.a_row + l * p.a_depth]);
            for (int q = 0; q < product_packs; ++q)
                sums[r][q] = multiply_add(x, line[q], sums[r][q]);
        }
    }
    for (int r = 0; r < count; ++r) {
        T* const target = p.c + (i + r) * p.c_row + j;
        if (columns == panel_width<T>) {
            for (int q = 0; q < product_packs; ++q) {
                const V old = adds ? load<V>(target + q * lanes) : V{};
                store(target + q * lanes, V(adds ? old + sums[r][q] : sums[r][q]));
            }
        } else {
            T line[panel_width<T>];
            __builtin_memcpy(line, &sums[r][0], sizeof line);
            for (std::int64_t q = 0; q < columns; ++q)
                target[q] = adds ? target[q] + line[q] : line[q];
        }
    }
}

template <class T>
HL_INLINE void product_here(const Product<T>& p) {
    alignas(64) T panel[depth_block * panel_width<T>];
    for (std::int64_t k = 0; k < p.depth; k += depth_block) {
        const std::int64_t depth = smaller(depth_block, p.depth - k);
        const bool adds = p.accumulate || k > 0;
        for (std::int64_t j = 0; j < p.columns; j += panel_width<T>) {
            const std::int64_t columns = smaller(panel_width<T>, p.columns - j);
            copy_panel(p, k, depth, j, columns, panel);
            std::int64_t i = 0;
            for (; i + product_rows <= p.rows; i += product_rows)
                product_block<product_rows>(p, k, depth, i, j, columns, panel, adds);
            for (; i < p.rows; ++i)
                product_block<1>(p, k, depth, i, j, columns, panel, adds);
        }
    }
}

HL_INLINE Gemm<float> blas_product(float) {
    return blas_sgemm();
}
HL_INLINE Gemm<double> blas_product(double) {
    return blas_dgemm();
}

// Row-major products are the transposed ones of Fortran: c^T = b^T a^T.
template <class T>
HL_INLINE void product_by_blas(const Product<T>& p, Gemm<T> gemm) {
    const bool b_is_plain = p.b_column == 1, a_is_plain = p.a_depth == 1;
    const char transpose_b = b_is_plain ? 'N' : 'T', transpose_a = a_is_plain ? 'N' : 'T';
    const int m = static_cast<int>(p.columns), n = static_cast<int>(p.rows);
    const int k = static_cast<int>(p.depth);
    // A single row or column may have any stride, but BLAS asks for one that is large enough.
    const int ldb = static_cast<int>(b_is_plain ? larger(p.b_depth, p.columns) : p.b_column);
    const int lda = static_cast<int>(a_is_plain ? larger(p.a_row, p.depth) : p.a_depth);
    const int ldc = static_cast<int>(p.c_row);
    const T one = 1, beta = p.accumulate ? 1 : 0;
    gemm(&transpose_b, &transpose_a, &m, &n, &k, &one, p.b, &ldb, p.a, &lda, &beta, p.c, &ldc);
}

template <class T>
HL_INLINE bool fits_blas(const Product<T>& p) {
    constexpr std::int64_t limit = 0x7fffffff;
    const std::int64_t lda = p.a_row + p.a_depth, ldb = p.b_depth + p.b_column;
    return p.depth <= limit && lda <= limit && ldb <= limit && p.c_row <= limit;
}

template <class T>
HL_NOINLINE static void run_product(const Product<T>& p) {
    const Gemm<T> gemm = blas_product(T(0));
    const double work =
        static_cast<double>(p.rows) * static_cast<double>(p.columns) * static_cast<double>(p.depth);
    if (gemm != nullptr && work > blas_pays_above && fits_blas(p)) {
        product_by_blas(p, gemm);
    } else {
        product_here(p);
    }
}

// Tiles of c. Smaller ones cost a tenth to a quarter of the rate, since BLAS copies its operands
// for each; larger ones leave threads without work, unless there are many rows.
constexpr std::int64_t tile_rows = 256;

template <class T>
HL_INLINE std::int64_t tile_columns(const Product<T>& p) {
    return p.rows >= 4 * tile_rows ? 512 : 256;
}

template <class T>
HL_INLINE std::int64_t product_tiles(const Product<T>& p) {
    return parts(p.rows, tile_rows) * parts(p.columns, tile_columns(p));
}

template <class T>
HL_INLINE Product<T> product_tile(const Product<T>& p, std::int64_t number) {
    const std::int64_t width = tile_columns(p), across = parts(p.columns, width);
    const std::int64_t i = number / across * tile_rows, j = number % across * width;
    Product<T> tile = p;
    tile.rows = smaller(tile_rows, p.rows - i);
    tile.columns = smaller(width, p.columns - j);
    tile.a += i * p.a_row;
    tile.b += j * p.b_column;
    tile.c += i * p.c_row + j;
    return tile;
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
