// Gradients of linear models on a GPU. Every sum is added up in the order of the CPU drivers, so
// that the bits are the same: strands of a dense row are the lanes of half a warp, a column's sum
// over a task's rows belongs to one thread.
#include "../core/cuda_device.cuh"
#include "cuda_solve.hpp"
#include "step_losses.hpp"
#include "step_sampling.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int threads_per_block = 128;
constexpr int strands = 16;  // num_strands of cpu_solve_rows.hpp
constexpr int columns_per_block = 128;

template <class T>
HL_DEVICE std::int64_t task_of(const CudaAdmmGradient<T>& call, std::int64_t row) {
    std::int64_t low = 0, high = call.job.num_tasks;
    while (high - low > 1) {
        const std::int64_t middle = (low + high) / 2;
        if (call.first_row[middle] <= row) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

template <class T>
HL_DEVICE std::int64_t find_row(const AdmmGradient<T>& job, const AdmmRows<T>& client,
                                std::int64_t index, std::int64_t position) {
    const AdmmBatch& batch = job.batch;
    const PhiloxKey key = philox_key(batch.seed);
    if (batch.sampling == AdmmSampling::replacement) {
        position = admm::sample_row(key, batch.round, index, position, client.count);
    } else if (batch.sampling == AdmmSampling::epoch) {
        const std::int64_t drawn = batch.round * batch.size + position;
        const std::int64_t epoch = drawn / client.count;
        const auto permutation = admm::EpochPermutation::prepare(key, epoch, index, client.count);
        position = permutation(drawn - epoch * client.count);
    }
    return client.rows == nullptr ? position : client.rows[position];
}

template <class T>
HL_DEVICE T sparse_product(const AdmmRows<T>& client, std::int64_t row, const T* w) {
    T sums[4] = {};
    const std::int64_t begin = client.indptr[row], end = client.indptr[row + 1];
    const std::int64_t whole = begin + (end - begin) / 4 * 4;
    for (std::int64_t k = begin; k < end; ++k) {
        const T x = w[client.indices[k]];
        const std::int64_t strand = k < whole ? (k - begin) % 4 : 0;
        sums[strand] += client.values == nullptr ? x : client.values[k] * x;
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// The product of a row of a tile, in the order of the tile's columns.
template <class T>
HL_DEVICE T tiled_product(const AdmmRows<T>& client, std::int64_t position, const T* w) {
    const std::int64_t tile = position / admm_tile_rows, row = position % admm_tile_rows;
    T sum = 0;
    for (std::int64_t e = client.tile_offsets[tile]; e < client.tile_offsets[tile + 1]; ++e) {
        if ((client.tile_masks[e] >> row & 1) != 0) sum += w[client.tile_columns[e]];
    }
    return sum;
}

// One strand of a dense row's product for each lane of half a warp; all lanes return the sum.
template <class T>
HL_DEVICE T dense_product(const T* row, const T* w, std::int64_t columns, int lane) {
    T sum = 0;
    const std::int64_t whole = columns / strands * strands;
    for (std::int64_t k = lane; k < whole; k += strands)
        sum += row[k] * w[k];
    if (whole + lane < columns) sum += row[whole + lane] * w[whole + lane];
    for (int half = strands / 2; half > 0; half /= 2)
        sum = sum + __shfl_xor_sync(full_warp, sum, half, strands);
    return sum;
}

template <class Loss, class T>
HL_DEVICE void measure(T z, T y, T weight, const T* shape, T& slope, T& loss) {
    slope = Loss::slope(z, y, shape) * weight;
    loss = Loss::value(z, y, shape) * weight;
}

template <class T>
HL_DEVICE void evaluate(const AdmmModel& model, T z, T y, T weight, T& slope, T& loss) {
    const T shape[2] = {static_cast<T>(model.shape[0]), static_cast<T>(model.shape[1])};
    switch (model.loss) {
        case AdmmLoss::squares:
            return measure<admm::Squares>(z, y, weight, shape, slope, loss);
        case AdmmLoss::logistic:
            return measure<admm::Logistic>(z, y, weight, shape, slope, loss);
        case AdmmLoss::squared_hinge:
            return measure<admm::SquaredHinge>(z, y, weight, shape, slope, loss);
        case AdmmLoss::huber_hinge:
            return measure<admm::HuberHinge>(z, y, weight, shape, slope, loss);
        case AdmmLoss::huber:
            return measure<admm::Huber>(z, y, weight, shape, slope, loss);
        case AdmmLoss::poisson:
            return measure<admm::Poisson>(z, y, weight, shape, slope, loss);
        default:
            return measure<admm::Quantile>(z, y, weight, shape, slope, loss);
    }
}

template <class T>
HL_DEVICE bool is_tiled(const AdmmGradient<T>& job, const AdmmRows<T>& client) {
    return client.tile_offsets != nullptr && job.batch.sampling == AdmmSampling::full;
}

// Half a warp for each row.
template <class T>
__global__ void __launch_bounds__(threads_per_block) predict(CudaAdmmGradient<T> call) {
    const AdmmGradient<T>& job = call.job;
    const int lane = static_cast<int>(threadIdx.x % strands);
    const std::int64_t groups = grid_threads() / strands;
    const std::int64_t turns = (call.num_rows + groups - 1) / groups;
    for (std::int64_t turn = 0; turn < turns; ++turn) {
        const std::int64_t wanted = turn * groups + grid_thread() / strands;
        const std::int64_t row = wanted < call.num_rows ? wanted : call.num_rows - 1;
        const std::int64_t index = task_of(call, row);
        const std::int64_t* task = job.tasks + 3 * index;
        const AdmmRows<T>& client = job.clients[task[0]];
        const std::int64_t position = task[1] + row - call.first_row[index];
        const std::int64_t id = find_row(job, client, task[0], position);
        const T* w = job.w + task[0] * job.w_stride;
        T z = client.dense != nullptr
                  ? dense_product(client.dense + id * call.columns, w, call.columns, lane)
                  : T(0);
        if (client.dense == nullptr && lane == 0)
            z = is_tiled(job, client) ? tiled_product(client, position, w)
                                      : sparse_product(client, id, w);
        __syncwarp();
        if (lane != 0 || wanted >= call.num_rows) continue;
        if (job.model.intercept) z = z + w[call.columns];
        const T weight = client.weights == nullptr ? T(1) : client.weights[id];
        call.ids[row] = id;
        evaluate(job.model, z, client.targets[id], weight, call.slopes[row], call.losses[row]);
    }
}

// One thread for each task and column of a dense matrix.
template <class T>
__global__ void __launch_bounds__(columns_per_block) scatter_dense(CudaAdmmGradient<T> call) {
    const AdmmGradient<T>& job = call.job;
    const std::int64_t tiles = (call.columns + columns_per_block) / columns_per_block;
    for (std::int64_t b = blockIdx.x; b < job.num_tasks * tiles; b += gridDim.x) {
        const std::int64_t index = b / tiles, column = b % tiles * columns_per_block + threadIdx.x;
        const std::int64_t client = job.tasks[3 * index];
        if (column >= job.model.dim) continue;
        if (job.active != nullptr && job.active[client] == 0) continue;
        const T* x = job.clients[client].dense;
        T sum = 0;
        for (std::int64_t r = call.first_row[index]; r < call.first_row[index + 1]; ++r) {
            const T slope = call.slopes[r];
            sum += column < call.columns ? slope * x[call.ids[r] * call.columns + column] : slope;
        }
        job.partials[index * job.model.dim + column] = sum;
    }
}

// The sixteen sums of every column of a tiled task, one for each of the first lanes of its warp.
template <class T>
HL_DEVICE void scatter_tiles(const CudaAdmmGradient<T>& call, const AdmmRows<T>& client,
                             std::int64_t index, std::int64_t lane) {
    const std::int64_t size = call.columns * admm_tile_rows;
    T* const sums = call.strands + index * size;
    for (std::int64_t k = lane; k < size; k += warp_lanes)
        sums[k] = 0;
    __syncwarp();
    const std::int64_t* task = call.job.tasks + 3 * index;
    const T* const slopes = call.slopes + call.first_row[index] - task[1];
    for (std::int64_t first = task[1]; lane < admm_tile_rows && first < task[2];
         first += admm_tile_rows) {
        const std::int64_t tile = first / admm_tile_rows;
        const T slope = first + lane < task[2] ? slopes[first + lane] : T(0);
        for (std::int64_t e = client.tile_offsets[tile]; e < client.tile_offsets[tile + 1]; ++e) {
            if ((client.tile_masks[e] >> lane & 1) != 0)
                sums[client.tile_columns[e] * admm_tile_rows + lane] += slope;
        }
    }
    __syncwarp();
    T* const g = call.job.partials + index * call.job.model.dim;
    for (std::int64_t column = lane; column < call.columns; column += warp_lanes) {
        T* const s = sums + column * admm_tile_rows;
        for (std::int64_t width = admm_tile_rows / 2; width > 0; width /= 2) {
            for (std::int64_t k = 0; k < width; ++k)
                s[k] = s[k] + s[k + width];
        }
        g[column] = s[0];
    }
    if (!call.job.model.intercept || lane != 0) return;
    T sum = 0;
    for (std::int64_t r = call.first_row[index]; r < call.first_row[index + 1]; ++r)
        sum += call.slopes[r];
    g[call.columns] = sum;
}

// A warp for each task of a sparse matrix: the columns of one row at a time, which differ.
template <class T>
__global__ void __launch_bounds__(warp_lanes) scatter_sparse(CudaAdmmGradient<T> call) {
    const AdmmGradient<T>& job = call.job;
    const std::int64_t lane = threadIdx.x;
    for (std::int64_t index = blockIdx.x; index < job.num_tasks; index += gridDim.x) {
        const std::int64_t number = job.tasks[3 * index];
        if (job.active != nullptr && job.active[number] == 0) continue;
        const AdmmRows<T>& client = job.clients[number];
        if (is_tiled(job, client)) {
            scatter_tiles(call, client, index, lane);
            continue;
        }
        T* const g = job.partials + index * job.model.dim;
        for (std::int64_t k = lane; k < job.model.dim; k += warp_lanes)
            g[k] = 0;
        __syncwarp();
        for (std::int64_t r = call.first_row[index]; r < call.first_row[index + 1]; ++r) {
            const std::int64_t id = call.ids[r];
            const T slope = call.slopes[r];
            for (std::int64_t k = client.indptr[id] + lane; k < client.indptr[id + 1];
                 k += warp_lanes) {
                g[client.indices[k]] += client.values == nullptr ? slope : client.values[k] * slope;
            }
            if (job.model.intercept && lane == 0) g[call.columns] += slope;
            __syncwarp();
        }
    }
}

template <class T>
__global__ void __launch_bounds__(threads_per_block) add_losses(CudaAdmmGradient<T> call) {
    const AdmmGradient<T>& job = call.job;
    for (std::int64_t index = grid_thread(); index < job.num_tasks; index += grid_threads()) {
        if (job.active != nullptr && job.active[job.tasks[3 * index]] == 0) continue;
        double total = 0;
        for (std::int64_t r = call.first_row[index]; r < call.first_row[index + 1]; ++r)
            total += static_cast<double>(call.losses[r]);
        job.values[index] = total;
    }
}

template <class T>
Status run(const CudaAdmmGradient<T>& job, bool dense, const CudaCall& call) {
    const char* const name = "admm_gradient";
    Status status =
        launch(name, predict<T>, shape_for(job.num_rows * strands, threads_per_block), call, job);
    if (status.ok() && job.job.partials != nullptr) {
        const std::int64_t tiles = (job.columns + columns_per_block) / columns_per_block;
        status =
            dense ? launch(name, scatter_dense<T>,
                           {job.job.num_tasks * tiles, columns_per_block, 0}, call, job)
                  : launch(name, scatter_sparse<T>, {job.job.num_tasks, warp_lanes, 0}, call, job);
    }
    if (status.ok() && job.job.values != nullptr)
        status =
            launch(name, add_losses<T>, shape_for(job.job.num_tasks, threads_per_block), call, job);
    return status;
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

hl::Status hl_cuda_admm_gradient_f32(const hl::CudaAdmmGradient<float>* job, int dense,
                                     const hl::CudaCall* call) {
    return hl::run(*job, dense != 0, *call);
}
hl::Status hl_cuda_admm_gradient_f64(const hl::CudaAdmmGradient<double>* job, int dense,
                                     const hl::CudaCall* call) {
    return hl::run(*job, dense != 0, *call);
}
