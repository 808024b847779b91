// Integration of velocity fields with fixed steps, and the table of this instruction-set level.
#include "integrate.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace flow {
namespace {

// Values of the table of a network that are made at a time: they stay in a cache.
constexpr std::int64_t table_values = 1 << 21;

// Some of the steps, for all tiles.
template <class T>
struct Steps {
    const FlowIntegrate<T>& call;
    const Coefficients<T>& method;
    std::int64_t begin, end;
    Table<T> table;
};

template <class T>
HL_INLINE void keep_state(const TileVelocity<T>& tile, const T* z, std::int64_t point) {
    const FlowIntegrate<T>& call = tile.call;
    if (call.keep[point] < 0) return;
    T* const target = call.kept + call.keep[point] * call.n * call.d;
    tile_store(z, tile.stride, call.order + tile.first, std::int64_t(0), tile.count, call.d, target,
               call.d);
}

template <class T>
HL_INLINE void step_stages(TileVelocity<T>& tile, const Steps<T>& steps, std::int64_t step,
                           const T* z, T* step_sizes, T* slopes) {
    const Coefficients<T>& method = steps.method;
    const double begin = tile.call.grid[step], length = tile.call.grid[step + 1] - begin;
    fill(step_sizes, tile.stride, static_cast<T>(length));
    for (int i = 0; i < method.stages; ++i) {
        fill(tile.times, tile.stride, static_cast<T>(begin + method.nodes[i] * length));
        if (i == 0) {
            copy(z, tile.size, tile.argument);
        } else {
            advance(tile, z, step_sizes, method.matrix[i], i, slopes, tile.argument);
        }
        tile.evaluate((step - steps.begin) * method.stages + i, slopes + i * tile.size);
    }
}

template <class T>
HL_NOINLINE Status run_tile(void* context, std::int64_t index) {
    const Steps<T>& steps = *static_cast<const Steps<T>*>(context);
    const FlowIntegrate<T>& call = steps.call;
    TileVelocity<T> tile(call, index);
    T *z, *step_sizes, *slopes;
    void* const memory = allocate_parts([&](Parts& parts) {
        z = parts.take<T>(tile.size);
        step_sizes = parts.take<T>(tile.stride);
        slopes = parts.take<T>(steps.method.stages * tile.size);
    });
    if (memory == nullptr || tile.memory == nullptr) {
        std::free(memory);
        return Status::out_of_memory("flow_integrate");
    }
    tile.table = steps.table;
    const std::int64_t* const rows = call.order + tile.first;
    tile_load(call.z, call.d, rows, std::int64_t(0), tile.count, call.d, z, tile.stride);
    Status status = Status::success();
    if (steps.begin == 0) keep_state(tile, z, 0);
    for (std::int64_t step = steps.begin; step < steps.end && status.ok(); ++step) {
        step_stages(tile, steps, step, z, step_sizes, slopes);
        advance(tile, z, step_sizes, steps.method.weights, steps.method.stages, slopes, z);
        const std::int64_t row = row_not_finite(tile, z);
        if (row >= 0) status = failed(flow_not_finite, row);
        keep_state(tile, z, step + 1);
        if (stop_requested()) status = Status::interrupted("flow_integrate");
    }
    tile_store(z, tile.stride, rows, std::int64_t(0), tile.count, call.d, call.z, call.d);
    std::free(memory);
    return status;
}

template <class T>
HL_INLINE Status run_steps(Steps<T>& steps, double* times, T* values) {
    const FlowIntegrate<T>& call = steps.call;
    if (values != nullptr) {
        std::int64_t count = 0;
        for (std::int64_t step = steps.begin; step < steps.end; ++step) {
            const double length = call.grid[step + 1] - call.grid[step];
            for (int i = 0; i < steps.method.stages; ++i)
                times[count++] = call.grid[step] + steps.method.nodes[i] * length;
        }
        const Status status = make_table(call, times, count, values);
        if (!status.ok()) return status;
    }
    return parallel_for(num_tiles(call), call.num_threads, run_tile<T>, &steps);
}

template <class T>
HL_NOINLINE Status integrate_fixed(const FlowIntegrate<T>& call) {
    const Coefficients<T> method(call.method);
    const std::int64_t num_steps = call.grid_size - 1;
    const std::int64_t columns = call.velocity.plan.table_columns;
    const std::int64_t of_a_step = method.stages * call.num_combinations * columns;
    std::int64_t at_once = of_a_step == 0 ? num_steps : table_values / of_a_step;
    at_once = at_once < 1 ? 1 : at_once < num_steps ? at_once : num_steps;
    double* times = nullptr;
    T* values = nullptr;
    void* memory = nullptr;
    if (of_a_step > 0) {
        memory = allocate_parts([&](Parts& parts) {
            times = parts.take<double>(at_once * method.stages);
            values = parts.take<T>(at_once * of_a_step);
        });
        if (memory == nullptr) return Status::out_of_memory("flow_integrate");
    }
    Status status = Status::success();
    for (std::int64_t begin = 0; begin < num_steps && status.ok(); begin += at_once) {
        const std::int64_t end = begin + at_once < num_steps ? begin + at_once : num_steps;
        Steps<T> steps = {call, method, begin, end, {values, columns, call.num_combinations}};
        status = run_steps(steps, times, values);
    }
    std::free(memory);
    for (std::int64_t r = 0; r < call.n && status.ok(); ++r) {
        call.evaluations[r] = num_steps * method.stages;
        call.accepted[r] = num_steps;
        call.rejected[r] = 0;
    }
    return status;
}

template <class T>
HL_INLINE Status integrate(const FlowIntegrate<T>& call) {
    switch (call.control) {
        case FlowControl::fixed:
            return integrate_fixed(call);
        case FlowControl::row:
            return integrate_rows(call);
        default:
            return integrate_batch(call);
    }
}

}  // namespace

Status integrate_any(const FlowIntegrate<float>& call) {
    return integrate(call);
}
Status integrate_any(const FlowIntegrate<double>& call) {
    return integrate(call);
}

}  // namespace flow

extern const FlowIntegrateTable flow_integrate_table;
const FlowIntegrateTable flow_integrate_table = {flow::integrate_any, flow::integrate_any};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
