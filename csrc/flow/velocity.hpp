// The velocity of one tile of rows: a network evaluated by its plan, or a function of the user, for
// all branches of guidance.
#pragma once

#include <cstdlib>

#include "../nn/tile.hpp"
#include "../nn/tile_product.hpp"
#include "integrate_kernels.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace flow {

// Hands out parts of one block of memory. With a null base it only counts.
struct Parts {
    char* base;
    std::size_t used = 0;

    template <class U>
    HL_MEMBER U* take(std::int64_t count) {
        char* const part = base == nullptr ? nullptr : base + used;
        used += (static_cast<std::size_t>(count) * sizeof(U) + 63) / 64 * 64;
        return reinterpret_cast<U*>(part);
    }
};

// Memory for what `place` takes from Parts; null where there is none.
template <class Place>
HL_INLINE void* allocate_parts(const Place& place) {
    Parts counter{nullptr};
    place(counter);
    void* const memory = std::aligned_alloc(64, counter.used == 0 ? 64 : counter.used);
    if (memory == nullptr) return nullptr;
    Parts parts{static_cast<char*>(memory)};
    place(parts);
    return memory;
}

// Few rows are cut into smaller tiles, so that there are some for each thread. It depends on the
// number of rows only.
HL_INLINE std::int64_t tile_stride(std::int64_t n) {
    if (n <= 2 * min_tile_rows) return min_tile_rows;
    return n <= 2 * max_tile_rows ? max_tile_rows / 2 : max_tile_rows;
}

// What of a network depends on times and labels only: a row of plan.table_columns values for each
// (time, combination of labels).
template <class T>
struct Table {
    const T* values;
    std::int64_t columns, combinations;

    HL_MEMBER const T* row(std::int64_t time, std::int64_t combination) const {
        return values + (time * combinations + combination) * columns;
    }
};

template <class T>
struct TileVelocity {
    using V = typename PackOf<T>::Type;
    static constexpr int lanes = LaneTraits<V>::lanes;

    const FlowIntegrate<T>& call;
    const FlowPlan& plan;
    Table<T> table{};
    std::int64_t first, count, stride, size;  // rows; size = d stride
    T *argument, *times;                      // in: where and when it is wanted
    void* memory;

    HL_MEMBER TileVelocity(const FlowIntegrate<T>& of, std::int64_t tile)
        : call(of), plan(of.velocity.plan), stride(tile_stride(of.n)) {
        first = tile * stride;
        count = call.n - first < stride ? call.n - first : stride;
        size = call.d * stride;
        memory = allocate_parts([this](Parts& parts) { place(parts); });
        if (memory == nullptr) return;
        clear(argument, size);
        clear(times, stride);
        if (call.velocity.function == nullptr) {
            prepare_network();
        } else {
            prepare_function();
        }
    }
    HL_MEMBER ~TileVelocity() { std::free(memory); }
    TileVelocity(const TileVelocity&) = delete;
    TileVelocity& operator=(const TileVelocity&) = delete;

    HL_MEMBER std::int64_t row(std::int64_t r) const {
        return call.order[first + (r < count ? r : count - 1)];
    }

    // slope = v(argument, times). `time` is the row of the table, where there is one.
    HL_MEMBER void evaluate(std::int64_t time, T* slope) {
        if (call.velocity.function == nullptr) {
            evaluate_network(time, slope);
        } else {
            evaluate_function(slope);
        }
    }

  private:
    T *shared, *branch, *gathered, *scratch, *unguided, *weights;
    T** slots;                     // (branches, num_slots)
    std::int64_t* slot_strides;    // the same
    std::int32_t* labels;          // (branches, attributes, stride)
    const std::int32_t** indices;  // (branches, attributes)
    bool* alike;                   // (branches,): all rows have the same labels
    // Of a function: z, t, labels and what it returns, (branches * count) rows of each; the last
    // for one branch as columns.
    T *row_z, *row_times, *row_out, *columns_out;
    std::int64_t* row_labels;

    HL_MEMBER void clear(T* values, std::int64_t number) {
        for (std::int64_t k = 0; k < number; ++k)
            values[k] = T(0);
    }

    HL_MEMBER void place(Parts& parts) {
        argument = parts.take<T>(size);
        times = parts.take<T>(stride);
        weights = parts.take<T>(call.branches * stride);
        unguided = parts.take<T>(size);
        if (call.velocity.function != nullptr) {
            const std::int64_t rows = call.branches * count;
            row_z = parts.take<T>(rows * call.d);
            row_times = parts.take<T>(rows);
            row_out = parts.take<T>(rows * call.d);
            columns_out = parts.take<T>(size);
            row_labels = parts.take<std::int64_t>(rows * call.attributes);
            return;
        }
        shared = parts.take<T>(plan.shared_columns * stride);
        branch = parts.take<T>(call.branches * plan.branch_columns * stride);
        gathered = parts.take<T>(plan.table_columns * stride);
        scratch = parts.take<T>(tile_scratch(plan.widest));
        slots = parts.take<T*>(call.branches * plan.num_slots);
        slot_strides = parts.take<std::int64_t>(call.branches * plan.num_slots);
        labels = parts.take<std::int32_t>(call.branches * call.attributes * stride);
        indices = parts.take<const std::int32_t*>(call.branches * call.attributes);
        alike = parts.take<bool>(call.branches);
    }

    HL_MEMBER const std::int32_t* labels_of(std::int64_t b, std::int64_t r) const {
        const std::int64_t c = call.combination_of[b * call.n + row(r)];
        return call.combinations + c * call.attributes;
    }

    HL_MEMBER void prepare_weights() {
        for (std::int64_t b = 1; b < call.branches; ++b) {
            const T* const given = call.weights + (b - 1) * call.weight_stride;
            for (std::int64_t r = 0; r < stride; ++r)
                weights[b * stride + r] = given[call.row_weights ? row(r) : 0];
        }
    }

    HL_MEMBER void prepare_function() {
        prepare_weights();
        for (std::int64_t b = 0; b < call.branches; ++b) {
            for (std::int64_t r = 0; r < count; ++r) {
                const std::int32_t* const from = labels_of(b, r);
                std::int64_t* const to = row_labels + (b * count + r) * call.attributes;
                for (std::int64_t a = 0; a < call.attributes; ++a)
                    to[a] = from[a];
            }
        }
    }

    HL_MEMBER void prepare_network() {
        prepare_weights();
        for (std::int64_t b = 0; b < call.branches; ++b) {
            prepare_labels(b);
            for (std::int64_t s = 0; s < plan.num_slots; ++s) {
                slots[b * plan.num_slots + s] = memory_of(b, s);
                const bool one = plan.slots[s].home == FlowHome::table && alike[b];
                slot_strides[b * plan.num_slots + s] = one ? 0 : stride;
            }
        }
        std::int64_t column = 0;
        for (std::int64_t s = 2; s < plan.num_inputs; ++s) {
            const std::int64_t width = plan.slots[s].width;
            const T* const source = call.velocity.inputs[s - 2];
            tile_load(source, width, call.order + first, std::int64_t(0), count, width,
                      shared + column * stride, stride);
            column += width;
        }
        run(FlowPhase::once_shared, 0);
        for (std::int64_t b = 0; b < call.branches; ++b)
            run(FlowPhase::once_branch, b);
    }

    HL_MEMBER void prepare_labels(std::int64_t b) {
        alike[b] = true;
        for (std::int64_t r = 0; r < stride; ++r) {
            const std::int32_t* const from = labels_of(b, r);
            if (from != labels_of(b, 0)) alike[b] = false;
            for (std::int64_t a = 0; a < call.attributes; ++a)
                labels[(b * call.attributes + a) * stride + r] = from[a];
        }
        for (std::int64_t a = 0; a < call.attributes; ++a)
            indices[b * call.attributes + a] = labels + (b * call.attributes + a) * stride;
    }

    HL_MEMBER T* memory_of(std::int64_t b, std::int64_t s) const {
        const FlowSlot& slot = plan.slots[s];
        switch (slot.home) {
            case FlowHome::given:
                return s == 0 ? argument : times;
            case FlowHome::shared:
                return shared + slot.column * stride;
            case FlowHome::branch:
                return branch + (b * plan.branch_columns + slot.column) * stride;
            default:
                return slot.column < 0 ? nullptr : gathered + slot.column * stride;
        }
    }

    HL_MEMBER void run(FlowPhase phase, std::int64_t b) {
        const int p = static_cast<int>(phase);
        if (plan.phases[p] == plan.phases[p + 1]) return;
        const NnTile<T> tile = {call.velocity.parameters,
                                call.velocity.buffers,
                                slots + b * plan.num_slots,
                                slot_strides + b * plan.num_slots,
                                indices + b * call.attributes,
                                stride,
                                scratch};
        for (std::int64_t k = plan.phases[p]; k < plan.phases[p + 1]; ++k)
            tile_forward(tile, plan.instructions[k]);
    }

    // Points the slots of a branch to the row of the table, or spreads its values over the rows.
    HL_MEMBER void look_up(std::int64_t time, std::int64_t b) {
        for (std::int64_t s = 0; s < plan.num_slots; ++s) {
            const FlowSlot& slot = plan.slots[s];
            const bool tabulated = slot.home == FlowHome::table || slot.home == FlowHome::spread;
            if (!tabulated || slot.column < 0) continue;
            if (slot.home == FlowHome::table && alike[b]) {
                const std::int64_t c = call.combination_of[b * call.n + row(0)];
                const T* const values = table.row(time, c) + slot.column;
                slots[b * plan.num_slots + s] = const_cast<T*>(values);
            } else {
                spread(time, b, slot);
            }
        }
    }

    HL_MEMBER void spread(std::int64_t time, std::int64_t b, const FlowSlot& slot) {
        T* const target = gathered + slot.column * stride;
        for (std::int64_t r = 0; r < stride; ++r) {
            const std::int64_t c = call.combination_of[b * call.n + row(r)];
            const T* const values = table.row(time, c) + slot.column;
            for (std::int64_t j = 0; j < slot.width; ++j)
                target[j * stride + r] = values[j];
        }
    }

    HL_MEMBER void evaluate_network(std::int64_t time, T* slope) {
        for (std::int64_t b = 0; b < call.branches; ++b) {
            if (plan.table_columns > 0) look_up(time, b);
            if (b == 0) run(FlowPhase::shared, b);
            run(FlowPhase::branch, b);
            add_branch(b, slots[b * plan.num_slots + plan.output.slot] + plan.output.begin * stride,
                       slope);
        }
    }

    HL_MEMBER void evaluate_function(T* slope) {
        for (std::int64_t b = 0; b < call.branches; ++b) {
            tile_store(argument, stride, static_cast<const std::int64_t*>(nullptr), b * count,
                       count, call.d, row_z, call.d);
            for (std::int64_t r = 0; r < count; ++r)
                row_times[b * count + r] = times[r];
        }
        call.velocity.function(call.branches * count, call.d, row_z, row_times, row_labels, row_out,
                               call.velocity.user);
        for (std::int64_t b = 0; b < call.branches; ++b) {
            tile_load(row_out, call.d, static_cast<const std::int64_t*>(nullptr), b * count, count,
                      call.d, columns_out, stride);
            add_branch(b, columns_out, slope);
        }
    }

    // slope = v_0, then slope += w_b (v_b - v_0).
    HL_MEMBER void add_branch(std::int64_t b, const T* own, T* slope) {
        for (std::int64_t k = 0; k < size; k += stride) {
            for (std::int64_t r = 0; r < stride; r += lanes) {
                V v = load<V>(own + k + r);
                if (b == 0 && call.branches > 1) store(unguided + k + r, v);
                if (b > 0) {
                    const V change = v - load<V>(unguided + k + r);
                    v = load<V>(slope + k + r) + load<V>(weights + b * stride + r) * change;
                }
                store(slope + k + r, v);
            }
        }
    }
};

}  // namespace flow
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
