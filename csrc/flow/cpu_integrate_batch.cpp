// Dormand and Prince's pair where the batch has one time and one step: the error is the root mean
// square over all its elements, so that tiles meet after each attempt.
#include "adaptive.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace flow {
namespace {

enum class BatchTask { begin, try_step, attempt };

// Matrices are (n, d), row-major.
template <class T>
struct Batch {
    const FlowIntegrate<T>& call;
    const Coefficients<T>& method;
    T *z, *first, *next, *last, *bend;  // first and last slope of the step, dense output
    double *norms, *more_norms;         // (n,)
    T* table;
    BatchTask task;
    double t, h;
};

template <class T>
HL_INLINE void store_norms(const AdaptiveTile<T>& tile, double* norms) {
    for (std::int64_t r = 0; r < tile.velocity.count; ++r)
        norms[tile.velocity.row(r)] = tile.norms[r];
}

template <class T>
HL_INLINE void store_bend(const Batch<T>& batch, AdaptiveTile<T>& tile) {
    using V = typename PackOf<T>::Type;
    const std::int64_t size = tile.velocity.size;
    T* const sum = tile.slope(1);
    for (std::int64_t k = 0; k < size; k += LaneTraits<V>::lanes)
        store(sum + k, combine_slopes<V>(batch.method.dense, max_stages, tile.slopes + k, size));
}

template <class T>
HL_NOINLINE Status run_batch_tile(void* context, std::int64_t index) {
    const Batch<T>& batch = *static_cast<const Batch<T>*>(context);
    const FlowIntegrate<T>& call = batch.call;
    AdaptiveTile<T> tile(call, batch.method, index);
    if (!tile.allocated()) return Status::out_of_memory("flow_integrate");
    const TileVelocity<T>& v = tile.velocity;
    const std::int64_t* const rows = call.order + v.first;
    const auto load_matrix = [&](const T* from, T* to) {
        tile_load(from, call.d, rows, std::int64_t(0), v.count, call.d, to, v.stride);
    };
    const auto store_matrix = [&](const T* from, T* to) {
        tile_store(from, v.stride, rows, std::int64_t(0), v.count, call.d, to, call.d);
    };
    tile.load_state();
    load_matrix(batch.z, tile.z);
    tile.velocity.table = {batch.table, call.velocity.plan.table_columns, call.num_combinations};
    for (std::int64_t r = 0; r < v.stride; ++r) {
        tile.t[r] = batch.t;
        tile.h[r] = batch.h;
    }
    if (batch.task == BatchTask::begin) {
        tile.begin();
        store_matrix(tile.slope(0), batch.first);
        tile.measure(tile.z, tile.z);
        store_norms(tile, batch.norms);
        tile.measure(tile.slope(0), tile.z);
        store_norms(tile, batch.more_norms);
        return Status::success();
    }
    load_matrix(batch.first, tile.slope(0));
    if (batch.task == BatchTask::try_step) {
        tile.try_step(0);
        tile.measure_change();
        store_norms(tile, batch.norms);
        return Status::success();
    }
    tile.attempt(0);
    store_norms(tile, batch.norms);
    store_matrix(v.argument, batch.next);
    store_matrix(tile.slope(last_stage), batch.last);
    if (batch.bend != nullptr) {
        store_bend(batch, tile);
        store_matrix(tile.slope(1), batch.bend);
    }
    return Status::success();
}

template <class T>
struct BatchControl {
    const FlowIntegrate<T>& call;
    Batch<T>& batch;
    double sign;
    std::int64_t next_kept = 0, evaluations = 0, accepted = 0, rejected = 0;

    // Runs a task of all tiles, after the table of the times at which it evaluates.
    HL_MEMBER Status run(BatchTask task, const double* times, std::int64_t num_times) {
        batch.task = task;
        evaluations += num_times;
        if (stop_requested()) return Status::interrupted("flow_integrate");
        if (call.velocity.plan.table_columns > 0) {
            const Status status = make_table(call, times, num_times, batch.table);
            if (!status.ok()) return status;
        }
        return parallel_for(num_tiles(call), call.num_threads, run_batch_tile<T>, &batch);
    }

    HL_MEMBER double root_mean(const double* norms) const {
        double total = 0;
        for (std::int64_t r = 0; r < call.n; ++r)
            total += norms[r];
        return square_root(total / static_cast<double>(call.n * call.d));
    }

    HL_MEMBER Status not_finite(const double* norms) const {
        for (std::int64_t r = 0; r < call.n; ++r) {
            if (!is_finite(norms[r])) return failed(flow_not_finite, r);
        }
        return failed(flow_not_finite, 0);
    }

    HL_MEMBER Status first_steps() {
        Status status = run(BatchTask::begin, &batch.t, 1);
        if (!status.ok()) return status;
        const double d0 = root_mean(batch.norms), d1 = root_mean(batch.more_norms);
        if (!is_finite(d1)) return not_finite(batch.more_norms);
        batch.h = trial_step(d0, d1);
        const double time = batch.t + sign * batch.h;
        status = run(BatchTask::try_step, &time, 1);
        if (!status.ok()) return status;
        const double d2 = root_mean(batch.norms) / batch.h;
        if (!is_finite(d2)) return not_finite(batch.norms);
        batch.h = first_step(batch.h, d1, d2);
        return Status::success();
    }

    HL_MEMBER Status attempt() {
        const double end = call.grid[1], left = end - batch.t < 0 ? batch.t - end : end - batch.t;
        batch.h = left < batch.h ? left : batch.h;
        double times[last_stage];
        for (int i = 1; i <= last_stage; ++i)
            times[i - 1] = batch.t + batch.method.nodes[i] * (sign * batch.h);
        const Status status = run(BatchTask::attempt, times, last_stage);
        if (!status.ok()) return status;
        const double error = root_mean(batch.norms);
        if (!is_finite(error)) return not_finite(batch.norms);
        if (error <= 1) {
            accept(batch.h >= left ? end : batch.t + sign * batch.h);
        } else {
            ++rejected;
        }
        batch.h *= step_factor(error);
        const bool more = batch.t != end && accepted + rejected >= call.max_steps;
        return more ? failed(flow_max_steps, 0) : Status::success();
    }

    HL_MEMBER void accept(double until) {
        keep(until, batch.next);
        batch.t = until;
        exchange(batch.z, batch.next);
        exchange(batch.first, batch.last);
        ++accepted;
    }

    static HL_MEMBER void exchange(T*& a, T*& b) {
        T* const kept = a;
        a = b;
        b = kept;
    }

    HL_MEMBER void keep(double until, const T* state) {
        const std::int64_t size = call.n * call.d;
        for (; next_kept < call.num_kept; ++next_kept) {
            const double time = call.kept_times[next_kept];
            if (sign * (time - until) > 0) return;
            T* const out = call.kept + next_kept * size;
            if (time == until) {
                copy(state, size, out);
                continue;
            }
            const T theta = static_cast<T>((time - batch.t) / (until - batch.t));
            const T step = static_cast<T>(sign * batch.h);
            for (std::int64_t k = 0; k < size; ++k)
                out[k] =
                    continuous_extension(batch.z[k], T(batch.next[k] - batch.z[k]), batch.first[k],
                                         batch.last[k], batch.bend[k], step, theta);
        }
    }

    HL_MEMBER Status integrate() {
        keep(batch.t, batch.z);
        Status status = first_steps();
        while (status.ok() && batch.t != call.grid[1])
            status = attempt();
        for (std::int64_t r = 0; r < call.n; ++r) {
            call.evaluations[r] = evaluations;
            call.accepted[r] = accepted;
            call.rejected[r] = rejected;
        }
        if (batch.z != call.z) copy(batch.z, call.n * call.d, call.z);
        return status;
    }
};

template <class T>
HL_INLINE Status whole_batch(const FlowIntegrate<T>& call) {
    const Coefficients<T> method(call.method);
    const std::int64_t size = call.n * call.d;
    const std::int64_t columns = call.velocity.plan.table_columns;
    Batch<T> batch = {call,    method,  call.z,  nullptr,          nullptr,      nullptr, nullptr,
                      nullptr, nullptr, nullptr, BatchTask::begin, call.grid[0], 0.0};
    void* const memory = allocate_parts([&](Parts& parts) {
        batch.first = parts.take<T>(size);
        batch.next = parts.take<T>(size);
        batch.last = parts.take<T>(size);
        if (call.num_kept > 0) batch.bend = parts.take<T>(size);
        batch.norms = parts.take<double>(call.n);
        batch.more_norms = parts.take<double>(call.n);
        if (columns > 0) batch.table = parts.take<T>(last_stage * call.num_combinations * columns);
    });
    if (memory == nullptr) return Status::out_of_memory("flow_integrate");
    BatchControl<T> control = {call, batch, call.grid[1] > call.grid[0] ? 1.0 : -1.0};
    const Status status = control.integrate();
    std::free(memory);
    return status;
}

}  // namespace

Status integrate_batch(const FlowIntegrate<float>& call) {
    return whole_batch(call);
}
Status integrate_batch(const FlowIntegrate<double>& call) {
    return whole_batch(call);
}

}  // namespace flow
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
