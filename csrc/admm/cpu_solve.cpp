// The table of this instruction-set level, and the tasks of a gradient.
#include "cpu_solve.hpp"

#include "../core/pool.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class T>
Status run_task(void* context, std::int64_t index) {
    const auto& call = *static_cast<const AdmmGradient<T>*>(context);
    const std::int64_t* task = call.tasks + 3 * index;
    const std::int64_t client = task[0], dim = call.model.dim;
    const std::int64_t stride = call.slope_stride > 0 ? call.slope_stride : dim;
    if (call.active != nullptr && call.active[client] == 0) return Status::success();
    const admm::RowsTask<T> rows = {
        call,
        call.clients[client],
        client,
        task[1],
        task[2],
        call.w + client * call.w_stride,
        call.partials == nullptr ? nullptr : call.partials + index * stride,
        call.values == nullptr ? nullptr : call.values + index,
    };
    if (rows.gradient != nullptr && call.slope_stride == 0) {
        for (std::int64_t k = 0; k < dim; ++k)
            rows.gradient[k] = 0;
    }
    const bool linear = call.model.num_layers == 1 && call.model.layers[1] == 1;
    return linear ? admm::linear_task(rows) : admm::network_task(rows);
}

template <class T>
HL_INLINE Status gradient(const AdmmGradient<T>& call) {
    void* const context = const_cast<void*>(static_cast<const void*>(&call));
    return parallel_for(call.num_tasks, call.num_threads, run_task<T>, context);
}

}  // namespace

Status admm_gradient(const AdmmGradient<float>& call) {
    return gradient(call);
}
Status admm_gradient(const AdmmGradient<double>& call) {
    return gradient(call);
}

extern const AdmmSolveTable admm_solve_table;
const AdmmSolveTable admm_solve_table = {
    {admm_gradient, admm_round, admm_optimistic_round},
    {admm_gradient, admm_round, admm_optimistic_round},
};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
