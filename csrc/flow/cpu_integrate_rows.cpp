// Dormand and Prince's pair where each row has its own time and step.
#include "adaptive.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace flow {
namespace {

template <class T>
struct RowsJob {
    const FlowIntegrate<T>& call;
    const Coefficients<T>& method;
};

// Each row of a tile with its own time and step; rows that are done wait for the others.
template <class T>
struct RowControl {
    AdaptiveTile<T>& tile;
    const FlowIntegrate<T>& call;
    std::int64_t lowest = -1;  // of the rows that failed
    std::int32_t reason = 0;

    HL_MEMBER void fail(std::int64_t r, std::int32_t why) {
        const std::int64_t row = tile.velocity.row(r);
        if (lowest >= 0 && lowest <= row) return;
        lowest = row;
        reason = why;
    }

    HL_MEMBER double norm(std::int64_t r) const {
        return square_root(tile.norms[r] / static_cast<double>(call.d));
    }

    HL_MEMBER Status run() {
        tile.load_state();
        const std::int64_t count = tile.velocity.count;
        for (std::int64_t r = 0; r < count; ++r) {
            tile.keep(r, tile.start, tile.z);
            const std::int64_t row = tile.velocity.row(r);
            call.evaluations[row] = 2;
            call.accepted[row] = call.rejected[row] = 0;
        }
        tile.begin();
        first_steps();
        while (lowest < 0 && going_on()) {
            tile.attempt(0);
            judge();
            if (stop_requested()) return Status::interrupted("flow_integrate");
        }
        tile.store_state();
        return lowest < 0 ? Status::success() : failed(reason, lowest);
    }

    HL_MEMBER bool going_on() const {
        for (std::int64_t r = 0; r < tile.velocity.count; ++r) {
            if (!tile.done[r]) return true;
        }
        return false;
    }

    HL_MEMBER void first_steps() {
        const std::int64_t count = tile.velocity.count;
        tile.measure(tile.z, tile.z);
        for (std::int64_t r = 0; r < count; ++r)
            tile.h[r] = norm(r);
        tile.measure(tile.slope(0), tile.z);
        for (std::int64_t r = 0; r < count; ++r) {
            tile.d1[r] = norm(r);
            if (!is_finite(tile.d1[r])) fail(r, flow_not_finite);
            tile.h[r] = trial_step(tile.h[r], tile.d1[r]);
        }
        if (lowest >= 0) return;
        tile.try_step(0);
        tile.measure_change();
        for (std::int64_t r = 0; r < count; ++r) {
            const double d2 = norm(r) / tile.h[r];
            if (!is_finite(d2)) fail(r, flow_not_finite);
            tile.h[r] = first_step(tile.h[r], tile.d1[r], d2);
        }
    }

    HL_MEMBER void judge() {
        for (std::int64_t r = 0; r < tile.velocity.stride; ++r) {
            tile.accepted[r] = T(0);
            if (tile.done[r]) continue;
            const std::int64_t row = tile.velocity.row(r);
            const double error = norm(r);
            call.evaluations[row] += last_stage;
            if (!is_finite(error)) {
                fail(r, flow_not_finite);
                continue;
            }
            if (error <= 1) {
                tile.accept(r);
                ++call.accepted[row];
            } else {
                ++call.rejected[row];
            }
            tile.h[r] *= step_factor(error);
            if (!tile.done[r] && call.accepted[row] + call.rejected[row] >= call.max_steps)
                fail(r, flow_max_steps);
        }
        tile.take_over();
    }
};

template <class T>
HL_NOINLINE Status run_rows(void* context, std::int64_t index) {
    const RowsJob<T>& job = *static_cast<const RowsJob<T>*>(context);
    AdaptiveTile<T> tile(job.call, job.method, index);
    if (!tile.allocated()) return Status::out_of_memory("flow_integrate");
    RowControl<T> control = {tile, job.call};
    return control.run();
}

template <class T>
HL_INLINE Status rows(const FlowIntegrate<T>& call) {
    const Coefficients<T> method(call.method);
    RowsJob<T> job = {call, method};
    return parallel_for(num_tiles(call), call.num_threads, run_rows<T>, &job);
}

}  // namespace

Status integrate_rows(const FlowIntegrate<float>& call) {
    return rows(call);
}
Status integrate_rows(const FlowIntegrate<double>& call) {
    return rows(call);
}

}  // namespace flow
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
