// Dense layers on the device: products by cuBLAS, what surrounds them in one kernel each way.
#include "cuda_pass.cuh"
#include "step_layers.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

namespace products {

template <class T>
Status forward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t, const CudaCall& call) {
    const Columns<T> x = values_of(pass, it.input), y = values_of(pass, it.output);
    const Status status = device_product(
        DeviceProduct<T>{pass.rows, y.width, x.width, x.data, x.stride, false,
                         parameters_at(pass, it.weight), x.width, true, y.data, y.stride, false},
        call);
    return status.ok() ? cuda_finish(pass, it, call) : status;
}

template <class T>
Status backward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n,
                const CudaCall& call) {
    const NnDuty& duty = pass.plan.duties[n];
    Status status = cuda_unfinish(pass, it, duty, call);
    if (!status.ok()) return status;
    const Columns<T> x = values_of(pass, it.input), dy = gradients_of(pass, it.output);
    status = device_product(
        DeviceProduct<T>{dy.width, x.width, pass.rows, dy.data, dy.stride, true, x.data, x.stride,
                         false, parameter_gradient_at(pass, it.weight), x.width, duty.adds_weight},
        call);
    if (!status.ok() || !duty.needs_input) return status;
    const Columns<T> dx = gradients_of(pass, it.input);
    return device_product(DeviceProduct<T>{pass.rows, dx.width, dy.width, dy.data, dy.stride, false,
                                           parameters_at(pass, it.weight), dx.width, false, dx.data,
                                           dx.stride, duty.adds_input},
                          call);
}

}  // namespace products

namespace tables {

// The table is written out as a matrix of zeros and transformed values, one block for each row.
template <class T>
__global__ void __launch_bounds__(nn_threads)
    write_rows(NnSparse<T> table, const std::int64_t* rows, std::int64_t count, T* out) {
    for (std::int64_t r = blockIdx.x; r < count; r += gridDim.x) {
        const std::int64_t row = rows != nullptr ? rows[r] : r;
        T* const to = out + r * table.columns;
        for (std::int64_t j = threadIdx.x; j < table.columns; j += blockDim.x)
            to[j] = T(0);
        __syncthreads();
        const T total = table.totals != nullptr ? table.totals[row] : T(1);
        for (std::int64_t i = table.indptr[row] + threadIdx.x; i < table.indptr[row + 1];
             i += blockDim.x) {
            to[table.indices[i]] = transformed(table.values[i], total, table.transform);
        }
        __syncthreads();
    }
}

template <class T>
Status forward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n,
               const CudaCall& call) {
    const NnSparse<T>& table = pass.tables.sparse[it.input.slot];
    T* const matrix = pass.arena.entries[n].values;
    Status status = launch("nn_forward", write_rows<T>, LaunchShape{pass.rows, nn_threads, 0}, call,
                           table, pass.tables.rows, pass.rows, matrix);
    if (!status.ok()) return status;
    const Columns<T> y = values_of(pass, it.output);
    status = device_product(
        DeviceProduct<T>{pass.rows, y.width, table.columns, matrix, table.columns, false,
                         parameters_at(pass, it.weight), y.width, false, y.data, y.stride, false},
        call);
    return status.ok() ? cuda_finish(pass, it, call) : status;
}

template <class T>
Status backward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n,
                const CudaCall& call) {
    const NnDuty& duty = pass.plan.duties[n];
    const Status status = cuda_unfinish(pass, it, duty, call);
    if (!status.ok()) return status;
    const std::int64_t columns = pass.tables.sparse[it.input.slot].columns;
    const Columns<T> dy = gradients_of(pass, it.output);
    return device_product(
        DeviceProduct<T>{columns, dy.width, pass.rows, pass.arena.entries[n].values, columns, true,
                         dy.data, dy.stride, false, parameter_gradient_at(pass, it.weight),
                         dy.width, duty.adds_weight},
        call);
}

}  // namespace tables
}  // namespace

HL_NN_DEFINE_CUDA_PASSES(dense, products)
HL_NN_DEFINE_CUDA_PASSES(sparse_dense, tables)

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
