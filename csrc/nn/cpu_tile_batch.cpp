// Batches of narrow networks: tiles of 64 rows go forward and back, and their gradients are added
// in the order of the tiles.
#include <cstdlib>

#include "../core/pool.hpp"
#include "tile.hpp"
#include "tile_kernels.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// One tile of every slot, and of its gradient where there is a way back.
template <class T>
struct BatchTile {
    static constexpr std::int64_t stride = nn_tile_rows;

    const NnTileJob<T>& job;
    std::int64_t first, count;
    void* memory = nullptr;
    T *values = nullptr, *gradient_values = nullptr, *scratch = nullptr;
    T **slots = nullptr, **gradients = nullptr;
    std::int32_t* labels = nullptr;
    const std::int32_t** indices = nullptr;

    HL_MEMBER BatchTile(const NnTileJob<T>& of, std::int64_t tile) : job(of), first(tile * stride) {
        count = job.rows - first < stride ? job.rows - first : stride;
        std::int64_t columns = 0, widest = 0;
        for (std::int64_t s = 0; s < job.program.num_slots; ++s) {
            const std::int64_t width = job.program.widths[s];
            columns += width;
            widest = width > widest ? width : widest;
        }
        const std::int64_t pointers = 2 * job.program.num_slots + job.num_indices;
        const std::int64_t reals =
            columns * stride * (job.gradient == nullptr ? 1 : 2) + tile_scratch(widest);
        const std::int64_t bytes = reals * static_cast<std::int64_t>(sizeof(T)) +
                                   pointers * static_cast<std::int64_t>(sizeof(void*)) +
                                   job.num_indices * stride * 4;
        memory = std::aligned_alloc(64, static_cast<std::size_t>((bytes + 63) / 64 * 64));
        if (memory == nullptr) return;
        values = static_cast<T*>(memory);
        T* end = values + columns * stride;
        if (job.gradient != nullptr) {
            gradient_values = end;
            end += columns * stride;
        }
        scratch = end;
        slots = reinterpret_cast<T**>(scratch + tile_scratch(widest));
        gradients = slots + job.program.num_slots;
        indices = const_cast<const std::int32_t**>(
            reinterpret_cast<std::int32_t**>(gradients + job.program.num_slots));
        labels = reinterpret_cast<std::int32_t*>(indices + job.num_indices);
        place(columns);
    }
    HL_MEMBER ~BatchTile() { std::free(memory); }
    BatchTile(const BatchTile&) = delete;
    BatchTile& operator=(const BatchTile&) = delete;

    HL_MEMBER void place(std::int64_t columns) {
        std::int64_t column = 0;
        for (std::int64_t s = 0; s < job.program.num_slots; ++s) {
            const bool wanted = gradient_values != nullptr &&
                                (s >= job.program.num_inputs || job.input_gradients != nullptr);
            slots[s] = values + column * stride;
            gradients[s] = wanted ? gradient_values + column * stride : nullptr;
            column += job.program.widths[s];
        }
        if (gradient_values != nullptr)
            __builtin_memset(gradient_values, 0,
                             sizeof(T) * static_cast<std::size_t>(columns * stride));
        for (std::int64_t k = 0; k < job.num_indices; ++k) {
            indices[k] = labels + k * stride;
            for (std::int64_t r = 0; r < stride; ++r)
                labels[k * stride + r] = r < count ? job.indices[k][first + r] : -1;
        }
    }

    HL_MEMBER NnTile<T> tile() const {
        return {job.parameters, job.buffers, slots, nullptr, indices, stride, scratch};
    }

    HL_MEMBER NnTileDropout dropout() const { return {job.seed, job.step, first}; }

    HL_MEMBER void forward() {
        for (std::int64_t s = 0; s < job.program.num_inputs; ++s) {
            const std::int64_t width = job.program.widths[s];
            tile_load(job.inputs[s], width, static_cast<const std::int64_t*>(nullptr), first, count,
                      width, slots[s], stride);
        }
        if (job.training != 0) {
            tile_forward(tile(), job.program, dropout());
        } else {
            for (std::int64_t k = 0; k < job.program.num_instructions; ++k)
                tile_forward(tile(), job.program.instructions[k]);
        }
        if (job.out == nullptr) return;
        tile_store(slots[job.output.slot] + job.output.begin * stride, stride,
                   static_cast<const std::int64_t*>(nullptr), first, count, job.output.width,
                   job.out, job.output.width);
    }

    HL_MEMBER void backward(T* parameter_gradient) {
        tile_load(job.gradient, job.output.width, static_cast<const std::int64_t*>(nullptr), first,
                  count, job.output.width, gradients[job.output.slot] + job.output.begin * stride,
                  stride);
        for (std::int64_t k = 0; k < job.program.num_parameters; ++k)
            parameter_gradient[k] = T(0);
        tile_backward(tile(), job.program, dropout(), gradients, parameter_gradient);
        if (job.input_gradients == nullptr) return;
        for (std::int64_t s = 0; s < job.program.num_inputs; ++s) {
            const std::int64_t width = job.program.widths[s];
            tile_store(gradients[s], stride, static_cast<const std::int64_t*>(nullptr), first,
                       count, width, job.input_gradients[s], width);
        }
    }
};

template <class T>
HL_NOINLINE Status run_tile(void* context, std::int64_t index) {
    const NnTileJob<T>& job = *static_cast<const NnTileJob<T>*>(context);
    BatchTile<T> tile(job, index);
    if (tile.memory == nullptr) return Status::out_of_memory("nn_tile");
    tile.forward();
    if (job.gradient != nullptr)
        tile.backward(job.partial_gradients + index * job.program.num_parameters);
    return Status::success();
}

constexpr std::int64_t parameters_per_task = 1 << 12;

template <class T>
HL_NOINLINE Status add_partials(void* context, std::int64_t index) {
    const NnTileJob<T>& job = *static_cast<const NnTileJob<T>*>(context);
    const std::int64_t count = job.program.num_parameters, begin = index * parameters_per_task;
    const std::int64_t end =
        begin + parameters_per_task < count ? begin + parameters_per_task : count;
    for (std::int64_t k = begin; k < end; ++k)
        job.parameter_gradient[k] = job.partial_gradients[k];
    for (std::int64_t t = 1; t < nn_tiles(job.rows); ++t) {
        const T* HL_RESTRICT const from = job.partial_gradients + t * count;
        T* HL_RESTRICT const to = job.parameter_gradient;
        for (std::int64_t k = begin; k < end; ++k)
            to[k] += from[k];
    }
    return Status::success();
}

}  // namespace

template <class T>
HL_INLINE Status tile_batch(const NnTileJob<T>& job) {
    void* const context = const_cast<NnTileJob<T>*>(&job);
    const Status status = parallel_for(nn_tiles(job.rows), job.num_threads, run_tile<T>, context);
    if (!status.ok() || job.gradient == nullptr) return status;
    const std::int64_t tasks =
        (job.program.num_parameters + parameters_per_task - 1) / parameters_per_task;
    return parallel_for(tasks, job.num_threads, add_partials<T>, context);
}

Status nn_tile_batch(const NnTileJob<float>& job) {
    return tile_batch(job);
}
Status nn_tile_batch(const NnTileJob<double>& job) {
    return tile_batch(job);
}

extern const NnTileTable nn_tile_table;
const NnTileTable nn_tile_table = {nn_tile_batch, nn_tile_batch};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
