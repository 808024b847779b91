// Drivers of the operators that act on every element alone.
#include "cpu.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class V, ProxOperation operation>
HL_INLINE void set_constants(const ElementJob<RealOf<V>>& job, const RealOf<V>* first, V* c) {
    for (int k = 0; k < ElementProx<V, operation>::constants; ++k)
        c[k] = broadcast<V>(first[k * job.constant_stride]);
}

template <class V, ProxOperation operation>
HL_INLINE void load_constants(const ElementJob<RealOf<V>>& job, const RealOf<V>* first, V* c) {
    for (int k = 0; k < ElementProx<V, operation>::constants; ++k)
        c[k] = load<V>(first + k * job.constant_stride);
}

// Columns [begin, end) of one row.
template <class T, ProxOperation operation, bool by_column>
HL_INLINE void row_piece(const ElementJob<T>& job, std::int64_t row, std::int64_t begin,
                         std::int64_t end) {
    using V = typename PackOf<T>::Type;
    constexpr int lanes = LaneTraits<V>::lanes;
    const T* const v = job.v + row * job.columns;
    T* const out = job.out + row * job.columns;
    const T* const constants = job.constants + row * job.row_stride;
    V c[most_constants];
    T scalar[most_constants];
    if constexpr (!by_column) {
        set_constants<V, operation>(job, constants, c);
        set_constants<T, operation>(job, constants, scalar);
    }
    std::int64_t j = begin;
    for (; j + lanes <= end; j += lanes) {
        if constexpr (by_column) load_constants<V, operation>(job, constants + j, c);
        store(out + j, ElementProx<V, operation>::apply(load<V>(v + j), c));
    }
    for (; j < end; ++j) {
        if constexpr (by_column) load_constants<T, operation>(job, constants + j, scalar);
        out[j] = ElementProx<T, operation>::apply(v[j], scalar);
    }
}

template <class T, ProxOperation operation, bool by_column>
HL_INLINE void row_part(const ElementJob<T>& job, std::int64_t row, std::int64_t begin,
                        std::int64_t end) {
    for (std::int64_t j = begin; j < end; j += elements_per_piece) {
        const std::int64_t stop = smaller(j + elements_per_piece, end);
        if (!is_useful(job, job.v + row * job.columns + j, stop - j)) return;
        row_piece<T, operation, by_column>(job, row, j, stop);
    }
}

// A task is a number of whole rows, or a part of a long one, from the end on as rows_of does.
HL_INLINE std::int64_t tasks_per_row(std::int64_t columns) {
    return (columns + elements_per_task - 1) / elements_per_task;
}

template <class T, ProxOperation operation, bool by_column>
Status elements_task(void* context, std::int64_t task) {
    const ElementJob<T>& job = *static_cast<const ElementJob<T>*>(context);
    if (job.columns <= elements_per_task) {
        const Range rows = rows_of(job, task);
        for (std::int64_t row = rows.begin; row < rows.end; ++row)
            row_part<T, operation, by_column>(job, row, 0, job.columns);
    } else {
        const std::int64_t parts = tasks_per_row(job.columns);
        const std::int64_t from_start = job.rows * parts - 1 - task;
        const std::int64_t begin = from_start % parts * elements_per_task;
        row_part<T, operation, by_column>(job, from_start / parts, begin,
                                          smaller(begin + elements_per_task, job.columns));
    }
    return task_done("prox");
}

template <class T, ProxOperation operation>
Status run_operation(const ElementJob<T>& job) {
    const Task task =
        job.by_column ? elements_task<T, operation, true> : elements_task<T, operation, false>;
    if (job.columns <= elements_per_task) return over_rows(job, task);
    return parallel_for(job.rows * tasks_per_row(job.columns), job.num_threads, task,
                        const_cast<ElementJob<T>*>(&job));
}

template <class T>
Status run(const ElementJob<T>& job) {
    switch (job.operation) {
        case ProxOperation::soft:
            return run_operation<T, ProxOperation::soft>(job);
        case ProxOperation::elastic:
            return run_operation<T, ProxOperation::elastic>(job);
        case ProxOperation::scale:
            return run_operation<T, ProxOperation::scale>(job);
        case ProxOperation::clip:
            return run_operation<T, ProxOperation::clip>(job);
        case ProxOperation::firm:
            return run_operation<T, ProxOperation::firm>(job);
        case ProxOperation::huber:
            return run_operation<T, ProxOperation::huber>(job);
        case ProxOperation::hinge:
            return run_operation<T, ProxOperation::hinge>(job);
        case ProxOperation::logistic:
            return run_operation<T, ProxOperation::logistic>(job);
        case ProxOperation::log_sum:
            return run_operation<T, ProxOperation::log_sum>(job);
    }
    return Status::invalid_argument("prox: unknown operation");
}

}  // namespace

Status prox_elements(const ElementJob<float>& job) {
    return run(job);
}
Status prox_elements(const ElementJob<double>& job) {
    return run(job);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
