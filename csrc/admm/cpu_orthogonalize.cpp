// Newton-Schulz for batches of matrices: one matrix on one thread where there are enough, else all
// threads on the columns of one product. BLAS libraries treat the two symmetric products as general
// ones; the products here are faster from 32 to 768 rows (bench_admm_steps.py). Class B: fused
// multiply-adds where the level has them.
#include "../core/interrupt.hpp"
#include "../core/math.hpp"
#include "../core/pack_memory.hpp"
#include "../core/pool.hpp"
#include "orthogonalize.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr std::int64_t tile_rows = 4;
constexpr std::int64_t rows_worth_sharing = 128;
#if defined(HL_ISA_V4)
constexpr int tile_packs = 4;
#else
constexpr int tile_packs = 2;  // sixteen registers
#endif

// Dimensions are padded with zeros, which the iteration keeps, to whole packs and tiles.
template <class V>
constexpr std::int64_t unit = LaneTraits<V>::lanes > 4 ? LaneTraits<V>::lanes : 4;

template <class V>
HL_INLINE std::int64_t padded(std::int64_t size) {
    return (size + unit<V> - 1) / unit<V> * unit<V>;
}

// A matrix in rows of `stride` elements, which is a whole number of packs.
template <class T>
struct Block {
    T* data;
    std::int64_t stride;

    HL_MEMBER T* at(std::int64_t i, std::int64_t j) const { return data + i * stride + j; }
};

// finish(i, j, sums) for tile_rows x packs sums of left[i, :] right[:, j] over `depth` terms.
template <class V, int packs, class Finish>
HL_INLINE void tile(Block<RealOf<V>> left, Block<RealOf<V>> right, std::int64_t depth,
                    std::int64_t i, std::int64_t j, const Finish& finish) {
    constexpr int lanes = LaneTraits<V>::lanes;
    V sums[tile_rows][packs];
    for (int r = 0; r < tile_rows; ++r)
        for (int p = 0; p < packs; ++p)
            sums[r][p] = V{};
    const RealOf<V>* const a = left.at(i, 0);
    const RealOf<V>* b = right.at(0, j);
    for (std::int64_t k = 0; k < depth; ++k, b += right.stride) {
        V row[packs];
        for (int p = 0; p < packs; ++p)
            row[p] = load<V>(b + p * lanes);
        for (int r = 0; r < tile_rows; ++r) {
            const V x = broadcast<V>(a[r * left.stride + k]);
            for (int p = 0; p < packs; ++p)
                sums[r][p] = multiply_add(x, row[p], sums[r][p]);
        }
    }
    for (int r = 0; r < tile_rows; ++r)
        for (int p = 0; p < packs; ++p)
            finish(i + r, j + p * lanes, sums[r][p]);
}

// Columns [j, j + width) of left right, from row 0 to `rows`; of a symmetric product only the rows
// that reach the diagonal or lie above it.
template <class V, int packs, class Finish>
HL_INLINE void panel(Block<RealOf<V>> left, Block<RealOf<V>> right, std::int64_t depth,
                     std::int64_t rows, std::int64_t j, bool symmetric, const Finish& finish) {
    const std::int64_t end = j + packs * LaneTraits<V>::lanes;
    const std::int64_t last = symmetric && end < rows ? end : rows;
    for (std::int64_t i = 0; i < last; i += tile_rows)
        tile<V, packs>(left, right, depth, i, j, finish);
}

// A product in columns of tile_packs packs; the last may be narrower.
template <class V, class Finish>
struct Product {
    Block<RealOf<V>> left, right;
    std::int64_t depth, rows, columns;
    bool symmetric;
    const Finish& finish;

    static constexpr std::int64_t width = tile_packs * LaneTraits<V>::lanes;

    HL_MEMBER std::int64_t panels() const { return (columns + width - 1) / width; }

    HL_MEMBER void run_panel(std::int64_t number) const {
        constexpr int lanes = LaneTraits<V>::lanes;
        std::int64_t j = number * width;
        if (j + width <= columns) {
            panel<V, tile_packs>(left, right, depth, rows, j, symmetric, finish);
            return;
        }
        for (; j < columns; j += lanes)
            panel<V, 1>(left, right, depth, rows, j, symmetric, finish);
    }
};

template <class V, class Finish>
Status panel_task(void* context, std::int64_t number) {
    static_cast<const Product<V, Finish>*>(context)->run_panel(number);
    return Status::success();
}

template <class V, class Finish>
HL_INLINE Status product(Block<RealOf<V>> left, Block<RealOf<V>> right, std::int64_t depth,
                         std::int64_t rows, std::int64_t columns, bool symmetric, int num_threads,
                         const Finish& finish) {
    Product<V, Finish> whole{left, right, depth, rows, columns, symmetric, finish};
    if (num_threads > 1)
        return parallel_for(whole.panels(), num_threads, panel_task<V, Finish>, &whole);
    for (std::int64_t number = 0; number < whole.panels(); ++number)
        whole.run_panel(number);
    return Status::success();
}

// target[j, i] = source[i, j] for one square of lanes x lanes, or lanes x 4 where that is more.
template <class V>
HL_INLINE void transpose_square(Block<RealOf<V>> source, std::int64_t i, std::int64_t j,
                                std::int64_t width, Block<RealOf<V>> target) {
    constexpr int lanes = LaneTraits<V>::lanes;
    const RealOf<V>* rows[lanes];
    for (int r = 0; r < lanes; ++r)
        rows[r] = source.at(i + r, 0);
    for (std::int64_t k = j; k < j + width; k += 4) {
        V columns[4];
        transpose_columns(rows, k, columns);
        for (int p = 0; p < 4; ++p)
            store(target.at(k + p, i), columns[p]);
    }
}

template <class V>
HL_INLINE void transpose(Block<RealOf<V>> source, std::int64_t rows, std::int64_t columns,
                         Block<RealOf<V>> target) {
    for (std::int64_t i = 0; i < rows; i += LaneTraits<V>::lanes)
        transpose_square<V>(source, i, 0, columns, target);
}

// Copies what lies above the diagonal to below it.
template <class V>
HL_INLINE void mirror(Block<RealOf<V>> matrix, std::int64_t size) {
    constexpr std::int64_t u = unit<V>;
    for (std::int64_t i = 0; i < size; i += u)
        for (std::int64_t r = i; r < i + u; r += LaneTraits<V>::lanes)
            if (i + u < size) transpose_square<V>(matrix, r, i + u, size - i - u, matrix);
    for (std::int64_t i = 0; i < size; i += u)
        for (std::int64_t r = i; r < i + u; ++r)
            for (std::int64_t k = i; k < r; ++k)
                *matrix.at(r, k) = *matrix.at(k, r);
}

// Memory of one task: X, its transpose, the next X, and two square matrices.
template <class T>
struct Workspace {
    Block<T> x, transposed, next, gram, polynomial;
};

template <class V>
HL_INLINE std::size_t workspace_size(std::int64_t rows, std::int64_t columns) {
    const std::int64_t r = padded<V>(rows), c = padded<V>(columns);
    return static_cast<std::size_t>(3 * r * c + 2 * r * r) * sizeof(RealOf<V>);
}

template <class V>
HL_INLINE Workspace<RealOf<V>> workspace(RealOf<V>* memory, std::int64_t rows,
                                         std::int64_t columns) {
    const std::int64_t r = padded<V>(rows), c = padded<V>(columns);
    RealOf<V>* const square = memory + 3 * r * c;
    return {{memory, c},
            {memory + r * c, r},
            {memory + 2 * r * c, c},
            {square, r},
            {square + r * r, r}};
}

// 1 / (||matrix||_F + 1e-7), or 0 for a matrix of zeros; in double, with the largest element taken
// out, so that no square leaves its range.
template <class T>
HL_INLINE double inverse_norm(const T* matrix, std::int64_t size) {
    double largest = 0.0;
    for (std::int64_t k = 0; k < size; ++k) {
        const double a = static_cast<double>(matrix[k] < T(0) ? -matrix[k] : matrix[k]);
        largest = largest < a ? a : largest;
    }
    if (largest == 0.0) return 0.0;
    double sum[8] = {};
    for (std::int64_t k = 0; k < size; ++k) {
        const double x = static_cast<double>(matrix[k]) / largest;
        sum[k % 8] += x * x;
    }
    const double total =
        ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
    return 1.0 / (largest * square_root(total) + 1e-7);
}

template <class V>
HL_INLINE Status iterate(const OrthogonalizeJob<RealOf<V>>& job, Workspace<RealOf<V>>& w,
                         std::int64_t rows, std::int64_t columns, int num_threads) {
    const std::int64_t r = padded<V>(rows), c = padded<V>(columns);
    const auto gram = [&](std::int64_t i, std::int64_t j, V sum) { store(w.gram.at(i, j), sum); };
    const auto polynomial = [&](std::int64_t i, std::int64_t j, V sum) {
        store(w.polynomial.at(i, j), V(job.b * load<V>(w.gram.at(i, j)) + job.c * sum));
    };
    const auto next = [&](std::int64_t i, std::int64_t j, V sum) {
        store(w.next.at(i, j), V(job.a * load<V>(w.x.at(i, j)) + sum));
    };
    for (int step = 0; step < job.steps; ++step) {
        transpose<V>(w.x, r, c, w.transposed);
        Status status = product<V>(w.x, w.transposed, columns, r, r, true, num_threads, gram);
        if (!status.ok()) return status;
        mirror<V>(w.gram, r);
        status = product<V>(w.gram, w.gram, rows, r, r, true, num_threads, polynomial);
        if (!status.ok()) return status;
        mirror<V>(w.polynomial, r);
        status = product<V>(w.polynomial, w.x, rows, r, c, false, num_threads, next);
        if (!status.ok()) return status;
        const Block<RealOf<V>> old = w.x;
        w.x = w.next;
        w.next = old;
        if (stop_requested()) return Status::interrupted("orthogonalize");
    }
    return Status::success();
}

template <class T>
HL_INLINE Status one_matrix(const OrthogonalizeJob<T>& job, std::int64_t index, int num_threads,
                            T* memory) {
    using V = typename PackOf<T>::Type;
    const bool tall = job.rows > job.columns;
    const std::int64_t rows = tall ? job.columns : job.rows;
    const std::int64_t columns = tall ? job.rows : job.columns;
    Workspace<T> w = workspace<V>(memory, rows, columns);
    const T* const in = job.matrices + index * rows * columns;
    T* const out = job.out + index * rows * columns;
    const double scale = inverse_norm(in, rows * columns);
    __builtin_memset(memory, 0, workspace_size<V>(rows, columns));
    const std::int64_t across = tall ? 1 : columns, along = tall ? rows : 1;
    for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < columns; ++j)
            *w.x.at(i, j) = static_cast<T>(static_cast<double>(in[i * across + j * along]) * scale);
    const Status status = iterate<V>(job, w, rows, columns, num_threads);
    if (!status.ok()) return status;
    for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < columns; ++j)
            out[i * across + j * along] = *w.x.at(i, j);
    return Status::success();
}

template <class T>
Status with_memory(const OrthogonalizeJob<T>& job, std::int64_t index, int num_threads) {
    using V = typename PackOf<T>::Type;
    const bool tall = job.rows > job.columns;
    const std::size_t bytes =
        workspace_size<V>(tall ? job.columns : job.rows, tall ? job.rows : job.columns);
    void* const memory = __builtin_malloc(bytes + 64);
    if (memory == nullptr) return Status::out_of_memory("orthogonalize");
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    const Status status =
        one_matrix(job, index, num_threads, reinterpret_cast<T*>((address + 63) / 64 * 64));
    __builtin_free(memory);
    return status;
}

template <class T>
Status orthogonalize_task(void* context, std::int64_t index) {
    return with_memory(*static_cast<const OrthogonalizeJob<T>*>(context), index, 1);
}

template <class T>
Status orthogonalize(const OrthogonalizeJob<T>& job) {
    const int threads = job.num_threads > 0 ? job.num_threads : get_num_threads();
    const std::int64_t smaller = job.rows < job.columns ? job.rows : job.columns;
    if (job.count < threads && smaller >= rows_worth_sharing) {
        for (std::int64_t index = 0; index < job.count; ++index) {
            const Status status = with_memory(job, index, threads);
            if (!status.ok()) return status;
        }
        return Status::success();
    }
    return parallel_for(job.count, job.num_threads, orthogonalize_task<T>,
                        const_cast<OrthogonalizeJob<T>*>(&job));
}

}  // namespace

extern const OrthogonalizeTable orthogonalize_table;
const OrthogonalizeTable orthogonalize_table = {orthogonalize<float>, orthogonalize<double>};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
