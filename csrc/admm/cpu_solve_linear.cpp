// Gradients of linear models with one output, z = x w + b: chunks of rows, each predicted, turned
// into slopes, and scattered back while it is still in the cache.
#include <cstdlib>

#include "cpu_solve_rows.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace admm {
namespace {

template <class T>
struct Chunk {
    std::int64_t count;
    std::int64_t ids[chunk_rows];
    alignas(64) T z[chunk_rows];
    alignas(64) T y[chunk_rows];
    alignas(64) T weight[chunk_rows];
    alignas(64) T slope[chunk_rows];
    alignas(64) T value[chunk_rows];
};

template <class T>
HL_INLINE bool is_tiled(const RowsTask<T>& task) {
    return task.client.tile_offsets != nullptr && task.call.batch.sampling == AdmmSampling::full;
}

template <class T>
HL_INLINE void predict(const RowsTask<T>& task, Chunk<T>& chunk, std::int64_t first) {
    const AdmmRows<T>& rows = task.client;
    const std::int64_t columns = task.call.model.layers[0];
    const T* HL_RESTRICT w = task.w;
    const T b = task.call.model.intercept ? w[columns] : T(0);
    if (is_tiled(task)) {
        for (std::int64_t j = 0; j < chunk.count; j += admm_tile_rows)
            tile_products(rows, (first + j) / admm_tile_rows, w, chunk.z + j);
    } else if (rows.dense != nullptr) {
        std::int64_t j = 0;
        const T* pointers[4];
        for (; j + 4 <= chunk.count; j += 4) {
            for (int r = 0; r < 4; ++r)
                pointers[r] = rows.dense + chunk.ids[j + r] * columns;
            dense_products<4>(pointers, w, columns, chunk.z + j);
        }
        for (; j < chunk.count; ++j) {
            pointers[0] = rows.dense + chunk.ids[j] * columns;
            dense_products<1>(pointers, w, columns, chunk.z + j);
        }
    } else {
        for (std::int64_t j = 0; j < chunk.count; ++j) {
            const std::int64_t at = rows.indptr[chunk.ids[j]];
            const std::int64_t size = rows.indptr[chunk.ids[j] + 1] - at;
            const T* values = rows.values == nullptr ? nullptr : rows.values + at;
            chunk.z[j] = sparse_product(rows.indices + at, values, size, w);
        }
    }
    if (!task.call.model.intercept) return;
    for (std::int64_t j = 0; j < chunk.count; ++j)
        chunk.z[j] += b;
}

template <class T>
HL_INLINE void load_targets(const RowsTask<T>& task, Chunk<T>& chunk) {
    const T* HL_RESTRICT targets = task.client.targets;
    const T* HL_RESTRICT weights = task.client.weights;
    for (std::int64_t j = 0; j < chunk.count; ++j)
        chunk.y[j] = targets[chunk.ids[j]];
    if (weights != nullptr) {
        for (std::int64_t j = 0; j < chunk.count; ++j)
            chunk.weight[j] = weights[chunk.ids[j]];
    }
    for (std::int64_t j = chunk.count; j < chunk_rows; ++j)
        chunk.z[j] = chunk.y[j] = 0;
}

template <class Loss, class T>
HL_INLINE void evaluate(const RowsTask<T>& task, Chunk<T>& chunk) {
    using V = typename PackOf<T>::Type;
    const T shape[2] = {static_cast<T>(task.call.model.shape[0]),
                        static_cast<T>(task.call.model.shape[1])};
    for (std::int64_t j = 0; j < chunk_rows; j += LaneTraits<V>::lanes) {
        const V z = load<V>(chunk.z + j), y = load<V>(chunk.y + j);
        const V weight = load<V>(chunk.weight + j);
        const V slope = Loss::slope(z, y, shape) * weight;
        __builtin_memcpy(chunk.slope + j, &slope, sizeof slope);
        if (task.value == nullptr) continue;
        const V value = Loss::value(z, y, shape) * weight;
        __builtin_memcpy(chunk.value + j, &value, sizeof value);
    }
}

// g += slope_0 x_0 + slope_1 x_1 + ..., row after row for each column.
template <class T>
HL_INLINE void add_dense(const T* const* x, const T* slope, std::int64_t columns,
                         T* HL_RESTRICT g) {
    for (std::int64_t k = 0; k < columns; ++k) {
        g[k] = (((g[k] + slope[0] * x[0][k]) + slope[1] * x[1][k]) + slope[2] * x[2][k]) +
               slope[3] * x[3][k];
    }
}

template <class T>
HL_INLINE void scatter(const RowsTask<T>& task, const Chunk<T>& chunk, std::int64_t first,
                       T* strands) {
    const AdmmRows<T>& rows = task.client;
    const std::int64_t columns = task.call.model.layers[0];
    T* HL_RESTRICT g = task.gradient;
    if (strands != nullptr) {
        for (std::int64_t j = 0; j < chunk.count; j += admm_tile_rows)
            add_tile(rows, (first + j) / admm_tile_rows, chunk.slope + j, strands);
    } else if (rows.dense != nullptr) {
        std::int64_t j = 0;
        for (; j + 4 <= chunk.count; j += 4) {
            const T* const x[4] = {
                rows.dense + chunk.ids[j] * columns, rows.dense + chunk.ids[j + 1] * columns,
                rows.dense + chunk.ids[j + 2] * columns, rows.dense + chunk.ids[j + 3] * columns};
            add_dense(x, chunk.slope + j, columns, g);
        }
        for (; j < chunk.count; ++j) {
            const T* x = rows.dense + chunk.ids[j] * columns;
            for (std::int64_t k = 0; k < columns; ++k)
                g[k] += chunk.slope[j] * x[k];
        }
    } else {
        for (std::int64_t j = 0; j < chunk.count; ++j) {
            const std::int64_t at = rows.indptr[chunk.ids[j]];
            const std::int64_t size = rows.indptr[chunk.ids[j] + 1] - at;
            const T* values = rows.values == nullptr ? nullptr : rows.values + at;
            add_sparse(rows.indices + at, values, size, chunk.slope[j], g);
        }
    }
    if (!task.call.model.intercept) return;
    for (std::int64_t j = 0; j < chunk.count; ++j)
        g[columns] += chunk.slope[j];
}

// Sixteen sums for each column of a tiled client, which become the gradient in the end.
template <class T>
struct Strands {
    T* sums = nullptr;
    std::int64_t columns;

    HL_MEMBER explicit Strands(const RowsTask<T>& task) : columns(task.call.model.layers[0]) {
        if (task.gradient == nullptr || !is_tiled(task)) return;
        const std::int64_t size = columns * admm_tile_rows;
        sums = static_cast<T*>(std::aligned_alloc(64, static_cast<std::size_t>(size) * sizeof(T)));
        for (std::int64_t k = 0; sums != nullptr && k < size; ++k)
            sums[k] = 0;
    }
    Strands(const Strands&) = delete;
    Strands& operator=(const Strands&) = delete;
    HL_MEMBER ~Strands() { std::free(sums); }

    HL_MEMBER void fold(T* gradient) {
        for (std::int64_t k = 0; sums != nullptr && k < columns; ++k)
            gradient[k] = fold_strands(sums + k * admm_tile_rows);
    }
};

template <class Loss, class T>
HL_NOINLINE Status run_rows(const RowsTask<T>& task) {
    Chunk<T> chunk;
    Strands<T> strands(task);
    if (task.gradient != nullptr && is_tiled(task) && strands.sums == nullptr)
        return Status::out_of_memory("admm_gradient");
    for (std::int64_t j = 0; j < chunk_rows; ++j)
        chunk.weight[j] = 1;
    double total = 0;
    for (std::int64_t first = task.first; first < task.last; first += chunk_rows) {
        chunk.count = task.last - first < chunk_rows ? task.last - first : chunk_rows;
        find_rows(task, first, chunk.count, chunk.ids);
        predict(task, chunk, first);
        load_targets(task, chunk);
        evaluate<Loss>(task, chunk);
        if (task.gradient != nullptr && task.call.slope_stride > 0) {
            for (std::int64_t j = 0; j < chunk.count; ++j)
                task.gradient[first - task.first + j] = chunk.slope[j];
        } else if (task.gradient != nullptr) {
            scatter(task, chunk, first, strands.sums);
        }
        if (task.value != nullptr) {
            for (std::int64_t j = 0; j < chunk.count; ++j)
                total += static_cast<double>(chunk.value[j]);
        }
        if ((first / chunk_rows) % 16 == 15 && stop_requested())
            return Status::interrupted("admm_gradient");
    }
    strands.fold(task.gradient);
    if (task.value != nullptr) *task.value = total;
    return Status::success();
}

template <class T>
HL_INLINE Status run_loss(const RowsTask<T>& task) {
    switch (task.call.model.loss) {
        case AdmmLoss::squares:
            return run_rows<Squares>(task);
        case AdmmLoss::logistic:
            return run_rows<Logistic>(task);
        case AdmmLoss::squared_hinge:
            return run_rows<SquaredHinge>(task);
        case AdmmLoss::huber_hinge:
            return run_rows<HuberHinge>(task);
        case AdmmLoss::huber:
            return run_rows<Huber>(task);
        case AdmmLoss::poisson:
            return run_rows<Poisson>(task);
        case AdmmLoss::quantile:
            return run_rows<Quantile>(task);
        case AdmmLoss::softmax:
            break;
    }
    return Status::invalid_argument("admm_gradient: softmax needs two outputs or more");
}

}  // namespace

Status linear_task(const RowsTask<float>& task) {
    return run_loss(task);
}
Status linear_task(const RowsTask<double>& task) {
    return run_loss(task);
}

}  // namespace admm
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
