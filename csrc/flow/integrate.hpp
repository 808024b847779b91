// What the drivers of the integration share.
#pragma once

#include "../core/interrupt.hpp"
#include "../core/pool.hpp"
#include "step_solver.hpp"
#include "velocity.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace flow {

// A tableau in the precision of the state.
template <class T>
struct Coefficients {
    int stages;
    double nodes[max_stages];
    T matrix[max_stages][max_stages];
    T weights[max_stages], error[max_stages], dense[max_stages];

    HL_MEMBER explicit Coefficients(int method) {
        const Tableau tableau = tableau_of(method);
        stages = tableau.stages;
        for (int i = 0; i < max_stages; ++i) {
            nodes[i] = tableau.nodes[i];
            weights[i] = static_cast<T>(tableau.weights[i]);
            error[i] = static_cast<T>(dopri5_error[i]);
            dense[i] = static_cast<T>(dopri5_dense[i]);
            for (int j = 0; j < max_stages; ++j)
                matrix[i][j] = static_cast<T>(tableau.matrix[i][j]);
        }
    }
};

// out = z + step * sum_j coefficients[j] slopes[j]; step has one value for each row.
template <class T>
HL_INLINE void advance(const TileVelocity<T>& tile, const T* z, const T* step,
                       const T* coefficients, int count, const T* slopes, T* out) {
    using V = typename PackOf<T>::Type;
    const std::int64_t stride = tile.stride, size = tile.size;
    for (std::int64_t k = 0; k < size; k += stride) {
        for (std::int64_t r = 0; r < stride; r += LaneTraits<V>::lanes) {
            const V slope = combine_slopes<V>(coefficients, count, slopes + k + r, size);
            store(out + k + r, V(load<V>(z + k + r) + load<V>(step + r) * slope));
        }
    }
}

template <class T>
HL_INLINE void fill(T* values, std::int64_t count, T value) {
    for (std::int64_t k = 0; k < count; ++k)
        values[k] = value;
}

template <class T>
HL_INLINE void copy(const T* from, std::int64_t count, T* to) {
    for (std::int64_t k = 0; k < count; ++k)
        to[k] = from[k];
}

HL_INLINE bool is_finite(double x) {
    return x - x == 0;
}

HL_INLINE Status failed(std::int32_t reason, std::int64_t row) {
    return Status::numerical("flow_integrate", reason, row);
}

// The lowest row of the tile that has a value which isn't finite, or -1.
template <class T>
HL_INLINE std::int64_t row_not_finite(const TileVelocity<T>& tile, const T* values) {
    using V = typename PackOf<T>::Type;
    V sum{};
    for (std::int64_t k = 0; k < tile.size; k += LaneTraits<V>::lanes) {
        const V x = load<V>(values + k);
        sum += x - x;
    }
    if (!any_lane(sum != V{})) return -1;
    std::int64_t lowest = -1;
    for (std::int64_t k = 0; k < tile.size; ++k) {
        const std::int64_t r = k % tile.stride;
        if (r >= tile.count || values[k] - values[k] == T(0)) continue;
        const std::int64_t row = tile.row(r);
        if (lowest < 0 || row < lowest) lowest = row;
    }
    return lowest;
}

template <class T>
HL_INLINE std::int64_t num_tiles(const FlowIntegrate<T>& call) {
    const std::int64_t stride = tile_stride(call.n);
    return (call.n + stride - 1) / stride;
}

// Fills `values` for each (time, combination), in tiles of such pairs.
template <class T>
struct TableMaker {
    const FlowIntegrate<T>& call;
    const double* times;
    std::int64_t num_times;
    T* values;

    HL_MEMBER std::int64_t pairs() const { return num_times * call.num_combinations; }

    HL_MEMBER Status make(std::int64_t group) const {
        const FlowPlan& plan = call.velocity.plan;
        constexpr std::int64_t stride = max_tile_rows;
        T *made, *scratch, *lane_times, **slots;
        std::int32_t* labels;
        const std::int32_t** indices;
        void* const memory = allocate_parts([&](Parts& parts) {
            made = parts.take<T>(plan.made_columns * stride);
            scratch = parts.take<T>(tile_scratch(plan.widest));
            lane_times = parts.take<T>(stride);
            slots = parts.take<T*>(plan.num_slots);
            labels = parts.take<std::int32_t>(call.attributes * stride);
            indices = parts.take<const std::int32_t*>(call.attributes);
        });
        if (memory == nullptr) return Status::out_of_memory("flow_integrate");
        for (std::int64_t s = 0; s < plan.num_slots; ++s)
            slots[s] = s == 1 ? lane_times
                              : made + (plan.slots[s].made < 0 ? 0 : plan.slots[s].made) * stride;
        for (std::int64_t a = 0; a < call.attributes; ++a)
            indices[a] = labels + a * stride;
        for (std::int64_t r = 0; r < stride; ++r) {
            const std::int64_t pair = pair_of(group, r);
            lane_times[r] = static_cast<T>(times[pair / call.num_combinations]);
            const std::int64_t c = pair % call.num_combinations;
            for (std::int64_t a = 0; a < call.attributes; ++a)
                labels[a * stride + r] = call.combinations[c * call.attributes + a];
        }
        const NnTile<T> tile = {call.velocity.parameters,
                                call.velocity.buffers,
                                slots,
                                nullptr,
                                indices,
                                stride,
                                scratch};
        constexpr int p = static_cast<int>(FlowPhase::table);
        for (std::int64_t k = plan.phases[p]; k < plan.phases[p + 1]; ++k)
            tile_forward(tile, plan.instructions[k]);
        for (std::int64_t s = 0; s < plan.num_slots; ++s)
            keep(plan, s, slots[s], group);
        std::free(memory);
        return Status::success();
    }

  private:
    HL_MEMBER std::int64_t pair_of(std::int64_t group, std::int64_t r) const {
        const std::int64_t pair = group * max_tile_rows + r;
        return pair < pairs() ? pair : pairs() - 1;
    }

    HL_MEMBER void keep(const FlowPlan& plan, std::int64_t s, const T* columns,
                        std::int64_t group) const {
        const FlowSlot& slot = plan.slots[s];
        const bool tabulated = slot.home == FlowHome::table || slot.home == FlowHome::spread;
        if (!tabulated || slot.column < 0) return;
        for (std::int64_t r = 0; r < max_tile_rows; ++r) {
            if (group * max_tile_rows + r >= pairs()) return;
            T* const row = values + pair_of(group, r) * plan.table_columns + slot.column;
            for (std::int64_t j = 0; j < slot.width; ++j)
                row[j] = columns[j * max_tile_rows + r];
        }
    }
};

template <class T>
HL_NOINLINE static Status make_table_group(void* context, std::int64_t group) {
    return static_cast<const TableMaker<T>*>(context)->make(group);
}

// values: (num_times, num_combinations, table_columns).
template <class T>
HL_INLINE Status make_table(const FlowIntegrate<T>& call, const double* times,
                            std::int64_t num_times, T* values) {
    TableMaker<T> maker = {call, times, num_times, values};
    const std::int64_t groups = (maker.pairs() + max_tile_rows - 1) / max_tile_rows;
    return parallel_for(groups, call.num_threads, make_table_group<T>, &maker);
}

Status integrate_rows(const FlowIntegrate<float>& call);
Status integrate_rows(const FlowIntegrate<double>& call);
Status integrate_batch(const FlowIntegrate<float>& call);
Status integrate_batch(const FlowIntegrate<double>& call);

}  // namespace flow
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
