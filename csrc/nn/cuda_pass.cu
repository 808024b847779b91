// A pass queues the instructions in their order, or from the last to the first.
#include "cuda_pass.cuh"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class T>
__global__ void __launch_bounds__(nn_threads) gather(NnGather<T> job) {
    for (std::int64_t i = grid_thread(); i < job.count * job.width; i += grid_threads()) {
        const std::int64_t r = i / job.width, j = i % job.width;
        const std::int64_t row = job.rows != nullptr ? job.rows[r] : r;
        job.target[i] = job.source[row * job.width + j];
    }
}

template <class T>
Status gather_rows(const NnGather<T>& job, const CudaCall& call) {
    return launch("nn_gather", gather<T>, shape_for(job.count * job.width, nn_threads), call, job);
}

template <class T>
Status gather_inputs(const NnPass<T>& pass, const CudaCall& call) {
    const NnProgram& program = pass.plan.program;
    for (std::int64_t s = 0; s < program.num_inputs; ++s) {
        const T* const table = pass.tables.dense[s];
        if (table == nullptr || table == pass.arena.values[s]) continue;
        const Status status = gather_rows(NnGather<T>{table, pass.tables.rows, pass.rows,
                                                      program.widths[s], pass.arena.values[s]},
                                          call);
        if (!status.ok()) return status;
    }
    return Status::success();
}

template <class T>
Status forward_one(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n,
                   const CudaCall& call) {
    switch (static_cast<NnOperation>(it.operation)) {
        case NnOperation::dense:
            return cuda_dense_forward(pass, it, n, call);
        case NnOperation::sparse_dense:
            return cuda_sparse_dense_forward(pass, it, n, call);
        case NnOperation::activation:
            return cuda_activation_forward(pass, it, n, call);
        case NnOperation::batch_norm:
            return cuda_batch_norm_forward(pass, it, n, call);
        case NnOperation::layer_norm:
            return cuda_layer_norm_forward(pass, it, n, call);
        case NnOperation::dropout:
            return cuda_dropout_forward(pass, it, n, call);
        case NnOperation::embedding:
            return cuda_embedding_forward(pass, it, n, call);
        case NnOperation::time_embedding:
            return cuda_time_embedding_forward(pass, it, n, call);
    }
    return Status::invalid_argument("nn: unknown operation", n);
}

template <class T>
Status backward_one(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n,
                    const CudaCall& call) {
    switch (static_cast<NnOperation>(it.operation)) {
        case NnOperation::dense:
            return cuda_dense_backward(pass, it, n, call);
        case NnOperation::sparse_dense:
            return cuda_sparse_dense_backward(pass, it, n, call);
        case NnOperation::activation:
            return cuda_activation_backward(pass, it, n, call);
        case NnOperation::batch_norm:
            return cuda_batch_norm_backward(pass, it, n, call);
        case NnOperation::layer_norm:
            return cuda_layer_norm_backward(pass, it, n, call);
        case NnOperation::dropout:
            return cuda_dropout_backward(pass, it, n, call);
        case NnOperation::embedding:
            return cuda_embedding_backward(pass, it, n, call);
        case NnOperation::time_embedding:
            return cuda_time_embedding_backward(pass, it, n, call);
    }
    return Status::invalid_argument("nn: unknown operation", n);
}

template <class T>
Status forward(const NnPass<T>& pass, const CudaCall& call) {
    Status status = gather_inputs(pass, call);
    for (std::int64_t n = 0; status.ok() && n < pass.plan.program.num_instructions; ++n)
        status = forward_one(pass, pass.plan.program.instructions[n], n, call);
    return status;
}

// The gradients of what the losses read are there already.
template <class T>
Status backward(const NnPass<T>& pass, const CudaCall& call) {
    Status status = Status::success();
    for (std::int64_t n = pass.plan.program.num_instructions - 1; status.ok() && n >= 0; --n) {
        const NnInstruction& it = pass.plan.program.instructions[n];
        if (pass.arena.gradients[it.output.slot] != nullptr)
            status = backward_one(pass, it, n, call);
    }
    return status;
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

hl::Status hl_cuda_nn_forward_f32(const hl::NnPass<float>* pass, const hl::CudaCall* call) {
    return hl::forward(*pass, *call);
}
hl::Status hl_cuda_nn_forward_f64(const hl::NnPass<double>* pass, const hl::CudaCall* call) {
    return hl::forward(*pass, *call);
}
hl::Status hl_cuda_nn_backward_f32(const hl::NnPass<float>* pass, const hl::CudaCall* call) {
    return hl::backward(*pass, *call);
}
hl::Status hl_cuda_nn_backward_f64(const hl::NnPass<double>* pass, const hl::CudaCall* call) {
    return hl::backward(*pass, *call);
}
hl::Status hl_cuda_nn_gather_f32(const hl::NnGather<float>* job, const hl::CudaCall* call) {
    return hl::gather_rows(*job, *call);
}
hl::Status hl_cuda_nn_gather_f64(const hl::NnGather<double>* job, const hl::CudaCall* call) {
    return hl::gather_rows(*job, *call);
}
