// What the ways to train a batch share.
#pragma once

#include "cpu.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// Gradients that several add to start from 0.
template <class T>
HL_INLINE void clear(const NnPass<T>& pass) {
    const NnPlan& plan = pass.plan;
    for (std::int64_t i = 0; i < plan.num_cleared_slots; ++i) {
        const std::int64_t slot = plan.cleared_slots[i];
        __builtin_memset(
            pass.arena.gradients[slot], 0,
            sizeof(T) * static_cast<std::size_t>(pass.rows * plan.program.widths[slot]));
    }
    for (std::int64_t i = 0; i < plan.num_cleared_parameters; ++i) {
        const NnRange range = plan.cleared_parameters[i];
        __builtin_memset(pass.parameter_gradient + range.begin, 0,
                         sizeof(T) * static_cast<std::size_t>(range.end - range.begin));
    }
}

template <class T>
HL_INLINE NnLossJob<T> loss_job(const NnTrainJob<T>& job, const NnPass<T>& pass, std::int64_t k) {
    const NnLoss& loss = job.losses[k];
    const Columns<T> logits = values_of(pass, loss.logits);
    const Columns<T> gradient = gradients_of(pass, loss.logits);
    const NnLossKind kind = static_cast<NnLossKind>(loss.kind);
    const bool labelled = kind == NnLossKind::cross_entropy;
    const NnTables<T>& tables = pass.tables;
    return {kind,
            logits.data,
            logits.stride,
            pass.rows,
            logits.width,
            loss.sparse || labelled ? nullptr : tables.dense[loss.target],
            loss.sparse ? tables.sparse + loss.target : nullptr,
            labelled ? tables.indices[loss.target] : nullptr,
            tables.rows,
            parameters_at(pass, loss.log_theta),
            job.num_groups[k],
            loss.group < 0 ? nullptr : tables.indices[loss.group],
            loss.constant,
            loss.weight,
            gradient.data,
            gradient.stride,
            job.loss_adds != nullptr ? job.loss_adds[k] : 0,
            parameter_gradient_at(pass, loss.log_theta),
            job.row_losses + k * job.loss_stride,
            job.loss_scratch,
            pass.num_threads,
            pass.rows};
}

// The same as a forward pass, the losses and a backward pass, tile of rows by tile of rows.
Status nn_tiles_of_batch(const NnTrainJob<float>& job, const NnPass<float>& pass);
Status nn_tiles_of_batch(const NnTrainJob<double>& job, const NnPass<double>& pass);

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
