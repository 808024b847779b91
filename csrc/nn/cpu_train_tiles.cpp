// Training of narrow networks: a tile of 64 rows goes forward, through the losses and back while it
// is in the cache, and the tiles' gradients are added in their order.
#include "tile.hpp"
#include "tile_kernels.hpp"
#include "train.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr std::int64_t stride = nn_tile_rows;

template <class T>
struct Place {
    const NnTrainJob<T>& job;
    const NnPass<T>& pass;
    std::int64_t number, first, count;
    T *memory, *scratch, *loss_scratch, *gradient;
    T **slots, **gradients;
    std::int32_t* labels;
    const std::int32_t** label_pointers;
    std::int64_t columns;

    HL_MEMBER Place(const NnTrainJob<T>& of, const NnPass<T>& by, std::int64_t tile)
        : job(of), pass(by), number(tile), first(tile * stride) {
        const NnProgram& program = pass.plan.program;
        const std::int64_t tables = pass.tables.num_indices;
        count = smaller(stride, pass.rows - first);
        columns = 0;
        for (std::int64_t s = 0; s < program.num_slots; ++s)
            columns += program.widths[s];
        memory = job.tiles.memory + tile * job.tiles.elements;
        loss_scratch = memory + 2 * columns * stride;
        scratch = loss_scratch + job.tiles.loss_scratch;
        gradient = job.tiles.partial_gradients + tile * program.num_parameters;
        slots = job.tiles.pointers + 2 * tile * program.num_slots;
        gradients = slots + program.num_slots;
        labels = job.tiles.labels + tile * tables * stride;
        label_pointers = job.tiles.label_pointers + tile * tables;
    }

    HL_MEMBER void lay_out() const {
        const NnProgram& program = pass.plan.program;
        T* next = memory;
        for (std::int64_t s = 0; s < program.num_slots; ++s) {
            slots[s] = next;
            gradients[s] = pass.arena.gradients[s] == nullptr ? nullptr : next + columns * stride;
            next += program.widths[s] * stride;
        }
        __builtin_memset(memory + columns * stride, 0,
                         sizeof(T) * static_cast<std::size_t>(columns * stride));
        __builtin_memset(gradient, 0, sizeof(T) * static_cast<std::size_t>(program.num_parameters));
        for (std::int64_t k = 0; k < pass.tables.num_indices; ++k) {
            label_pointers[k] = labels + k * stride;
            for (std::int64_t r = 0; r < stride; ++r)
                labels[k * stride + r] =
                    r < count ? pass.tables.indices[k][table_row(pass.tables, first + r)] : -1;
        }
    }

    // Rows of a shuffled batch lie apart in tables that may be larger than the cache.
    HL_MEMBER void fetch() const {
        if (pass.tables.rows == nullptr) return;
        const NnProgram& program = pass.plan.program;
        for (std::int64_t s = 0; s < program.num_inputs; ++s)
            fetch_rows(pass.tables.dense[s], program.widths[s]);
        for (std::int64_t k = 0; k < job.num_losses; ++k) {
            const NnLossJob<T> loss = loss_job(job, pass, k);
            if (loss.dense_target != nullptr) fetch_rows(loss.dense_target, loss.width);
        }
    }

    HL_MEMBER void fetch_rows(const T* table, std::int64_t width) const {
        constexpr std::int64_t line = 64 / static_cast<std::int64_t>(sizeof(T));
        for (std::int64_t r = first; r < first + count; ++r) {
            const T* const row = table + pass.tables.rows[r] * width;
            for (std::int64_t j = 0; j < width; j += line)
                __builtin_prefetch(row + j);
            __builtin_prefetch(row + width - 1);
        }
    }

    HL_MEMBER NnTile<T> tile() const {
        return {pass.parameters, pass.buffers, slots, nullptr, label_pointers, stride, scratch};
    }

    HL_MEMBER NnTileDropout dropout() const { return {pass.seed, pass.step, first}; }

    HL_MEMBER void forward() const {
        const NnProgram& program = pass.plan.program;
        const std::int64_t* const rows =
            pass.tables.rows == nullptr ? nullptr : pass.tables.rows + first;
        for (std::int64_t s = 0; s < program.num_inputs; ++s)
            tile_load(pass.tables.dense[s], program.widths[s], rows, first, count,
                      program.widths[s], slots[s], stride);
        tile_forward(tile(), program, dropout());
    }

    // Whether the slot of loss k is that of an earlier one.
    HL_MEMBER bool is_repeated(std::int64_t k) const {
        for (std::int64_t i = 0; i < k; ++i) {
            if (job.losses[i].logits.slot == job.losses[k].logits.slot) return true;
        }
        return false;
    }

    // The losses read and write rows, so what they read goes out, and their gradients come in.
    HL_MEMBER Status losses() const {
        for (std::int64_t k = 0; k < job.num_losses; ++k) {
            const std::int64_t slot = job.losses[k].logits.slot;
            const std::int64_t width = pass.plan.program.widths[slot];
            if (!is_repeated(k))
                tile_store(slots[slot], stride, static_cast<const std::int64_t*>(nullptr), first,
                           count, width, pass.arena.values[slot], width);
        }
        for (std::int64_t k = 0; k < job.num_losses; ++k) {
            const Status status = nn_loss(part_of(loss_job(job, pass, k)));
            if (!status.ok()) return status;
        }
        for (std::int64_t k = 0; k < job.num_losses; ++k) {
            const std::int64_t slot = job.losses[k].logits.slot;
            const std::int64_t width = pass.plan.program.widths[slot];
            if (!is_repeated(k) && gradients[slot] != nullptr)
                tile_load(pass.arena.gradients[slot], width,
                          static_cast<const std::int64_t*>(nullptr), first, count, width,
                          gradients[slot], stride);
        }
        return Status::success();
    }

    HL_MEMBER NnLossJob<T> part_of(NnLossJob<T> loss) const {
        loss.logits += first * loss.stride;
        loss.rows = count;
        if (loss.gradient != nullptr) loss.gradient += first * loss.gradient_stride;
        loss.row_losses += first;
        if (loss.table_rows != nullptr) {
            loss.table_rows += first;
        } else if (loss.labels != nullptr) {
            loss.labels += first;
        } else {
            loss.dense_target += first * loss.width;
        }
        loss.scratch = loss_scratch;
        loss.num_threads = 1;
        return loss;
    }
};

template <class T>
struct Batch {
    const NnTrainJob<T>& job;
    const NnPass<T>& pass;
};

template <class T>
Status one_tile(void* context, std::int64_t number) {
    const Batch<T>& batch = *static_cast<const Batch<T>*>(context);
    const Place<T> place(batch.job, batch.pass, number);
    place.fetch();
    place.lay_out();
    place.forward();
    const Status status = place.losses();
    if (!status.ok()) return status;
    tile_backward(place.tile(), batch.pass.plan.program, place.dropout(), place.gradients,
                  place.gradient);
    return Status::success();
}

template <class T>
Status add_gradients(const NnTrainJob<T>& job, const NnPass<T>& pass) {
    constexpr std::int64_t elements = 1 << 12;
    const std::int64_t count = pass.plan.program.num_parameters, tiles = nn_tiles(pass.rows);
    const T* const shares = job.tiles.partial_gradients;
    return over_tasks(
        parts(count, elements), product_of(count, tiles), pass.num_threads, [&](std::int64_t task) {
            const std::int64_t begin = task * elements;
            for_columns<T>(begin, smaller(begin + elements, count), [&](auto pack, std::int64_t j) {
                using V = decltype(pack);
                V sum = load<V>(shares + j);
                for (std::int64_t t = 1; t < tiles; ++t)
                    sum = sum + load<V>(shares + t * count + j);
                store(pass.parameter_gradient + j, sum);
            });
        });
}

template <class T>
Status tiles_of_batch(const NnTrainJob<T>& job, const NnPass<T>& pass) {
    clear(pass);
    Batch<T> batch{job, pass};
    const Status status = parallel_for(nn_tiles(pass.rows), pass.num_threads, one_tile<T>, &batch);
    return status.ok() ? add_gradients(job, pass) : status;
}

}  // namespace

Status nn_tiles_of_batch(const NnTrainJob<float>& job, const NnPass<float>& pass) {
    return tiles_of_batch(job, pass);
}
Status nn_tiles_of_batch(const NnTrainJob<double>& job, const NnPass<double>& pass) {
    return tiles_of_batch(job, pass);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
