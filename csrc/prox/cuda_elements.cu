// CUDA drivers of the operators that act on every element alone.
#include "cuda.hpp"

#include "../core/cuda_device.cuh"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int threads_per_block = 256;

template <class T, ProxOperation operation>
__global__ void __launch_bounds__(threads_per_block) elements(ElementJob<T> job) {
    const std::int64_t size = job.rows * job.columns;
    for (std::int64_t i = grid_thread(); i < size; i += grid_threads()) {
        const std::int64_t row = job.row_stride != 0 ? i / job.columns : 0;
        const std::int64_t column = job.by_column ? i % job.columns : 0;
        const T* const first = job.constants + row * job.row_stride + column;
        T c[most_constants];
        for (int k = 0; k < ElementProx<T, operation>::constants; ++k)
            c[k] = read_only(first + k * job.constant_stride);
        job.out[i] = ElementProx<T, operation>::apply(job.v[i], c);
    }
}

template <class T, ProxOperation operation>
Status run_operation(const ElementJob<T>& job, const CudaCall& call) {
    return launch("prox", elements<T, operation>,
                  shape_for(job.rows * job.columns, threads_per_block), call, job);
}

template <class T>
Status run(const ElementJob<T>& job, const CudaCall& call) {
    switch (job.operation) {
        case ProxOperation::soft:
            return run_operation<T, ProxOperation::soft>(job, call);
        case ProxOperation::elastic:
            return run_operation<T, ProxOperation::elastic>(job, call);
        case ProxOperation::scale:
            return run_operation<T, ProxOperation::scale>(job, call);
        case ProxOperation::clip:
            return run_operation<T, ProxOperation::clip>(job, call);
        case ProxOperation::firm:
            return run_operation<T, ProxOperation::firm>(job, call);
        case ProxOperation::huber:
            return run_operation<T, ProxOperation::huber>(job, call);
        case ProxOperation::hinge:
            return run_operation<T, ProxOperation::hinge>(job, call);
        case ProxOperation::logistic:
            return run_operation<T, ProxOperation::logistic>(job, call);
        case ProxOperation::log_sum:
            return run_operation<T, ProxOperation::log_sum>(job, call);
    }
    return Status::invalid_argument("prox: unknown operation");
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

hl::Status hl_cuda_prox_elements_f32(const hl::ElementJob<float>* job, const hl::CudaCall* call) {
    return hl::run(*job, *call);
}
hl::Status hl_cuda_prox_elements_f64(const hl::ElementJob<double>* job, const hl::CudaCall* call) {
    return hl::run(*job, *call);
}
