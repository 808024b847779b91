// What the drivers of small networks share.
#pragma once

#include "../core/blocks.hpp"
#include "../core/interrupt.hpp"
#include "../core/pack_memory.hpp"
#include "../core/pool.hpp"
#include "pass.hpp"
#include "step_activations.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

template <class T>
HL_INLINE std::int64_t table_row(const NnTables<T>& tables, std::int64_t r) {
    return tables.rows == nullptr ? r : tables.rows[r];
}

// body(V{}, j) for whole packs of columns, then body(T{}, j) for those left.
template <class T, class Body>
HL_INLINE void for_columns(std::int64_t begin, std::int64_t end, const Body& body) {
    using V = typename PackOf<T>::Type;
    std::int64_t j = begin;
    for (; j + LaneTraits<V>::lanes <= end; j += LaneTraits<V>::lanes)
        body(V{}, j);
    for (; j < end; ++j)
        body(T{}, j);
}

// Doubles to and from memory in the precision T.
template <class V, class T>
HL_INLINE V load_as(const T* source) {
    if constexpr (sizeof(V) == sizeof(double)) {
        return static_cast<double>(*source);
    } else {
        return load_widened(source);
    }
}

template <class T>
HL_INLINE void store_as(T* target, double value) {
    *target = static_cast<T>(value);
}
template <class T>
HL_INLINE void store_as(T* target, f64v value) {
    store_narrowed(target, value);
}

// A sum in double in eight strands, which are added pairwise at the end: the same bits whatever the
// width of a register. term(pack of doubles or double, j) for j in [0, count).
template <class Term>
HL_INLINE double strand_sum(std::int64_t count, const Term& term) {
    constexpr int lanes = LaneTraits<f64v>::lanes, packs = 8 / lanes;
    f64v sums[packs];
    for (int q = 0; q < packs; ++q)
        sums[q] = f64v{};
    std::int64_t j = 0;
    for (; j + 8 <= count; j += 8) {
        for (int q = 0; q < packs; ++q)
            sums[q] = sums[q] + term(f64v{}, j + q * lanes);
    }
    double strands[8];
    __builtin_memcpy(strands, sums, sizeof strands);
    for (int s = 0; j < count; ++j, ++s)
        strands[s] += term(double{}, j);
    return ((strands[0] + strands[1]) + (strands[2] + strands[3])) +
           ((strands[4] + strands[5]) + (strands[6] + strands[7]));
}

// Work below this many elementary operations is done by the caller alone: waking others takes some
// microseconds. It depends on sizes only, never on the number of threads.
constexpr double operations_worth_sharing = 1 << 19;

template <class Body>
Status run_body(void* context, std::int64_t index) {
    (*static_cast<const Body*>(context))(index);
    return Status::success();
}

// body(i) for i in [0, count), which together take about `operations`.
template <class Body>
HL_INLINE Status over_tasks(std::int64_t count, double operations, int num_threads,
                            const Body& body) {
    if (count > 1 && num_threads != 1 && operations > operations_worth_sharing)
        return parallel_for(count, num_threads, run_body<Body>, const_cast<Body*>(&body));
    for (std::int64_t i = 0; i < count; ++i)
        body(i);
    return Status::success();
}

HL_INLINE std::int64_t parts(std::int64_t size, std::int64_t part) {
    return (size + part - 1) / part;
}

HL_INLINE double product_of(std::int64_t a, std::int64_t b, std::int64_t c = 1) {
    return static_cast<double>(a) * static_cast<double>(b) * static_cast<double>(c);
}

// Cuts of rows, and of columns for sums over rows: 64 floats are four lines of cache.
constexpr std::int64_t rows_per_task = 32;
constexpr std::int64_t columns_per_task = 64;

// Each instruction's passes, defined in cpu_<what>.cpp.
#define HL_NN_PASSES(name)                                                            \
    Status name##_forward(const NnPass<float>&, const NnInstruction&, std::int64_t);  \
    Status name##_forward(const NnPass<double>&, const NnInstruction&, std::int64_t); \
    Status name##_backward(const NnPass<float>&, const NnInstruction&, std::int64_t); \
    Status name##_backward(const NnPass<double>&, const NnInstruction&, std::int64_t);

HL_NN_PASSES(dense)
HL_NN_PASSES(sparse_dense)
HL_NN_PASSES(activation)
HL_NN_PASSES(batch_norm)
HL_NN_PASSES(layer_norm)
HL_NN_PASSES(dropout)
HL_NN_PASSES(embedding)
HL_NN_PASSES(time_embedding)
#undef HL_NN_PASSES

#define HL_NN_DEFINE_PASSES(name, room)                                                           \
    Status name##_forward(const NnPass<float>& pass, const NnInstruction& it, std::int64_t n) {   \
        return room::forward(pass, it, n);                                                        \
    }                                                                                             \
    Status name##_forward(const NnPass<double>& pass, const NnInstruction& it, std::int64_t n) {  \
        return room::forward(pass, it, n);                                                        \
    }                                                                                             \
    Status name##_backward(const NnPass<float>& pass, const NnInstruction& it, std::int64_t n) {  \
        return room::backward(pass, it, n);                                                       \
    }                                                                                             \
    Status name##_backward(const NnPass<double>& pass, const NnInstruction& it, std::int64_t n) { \
        return room::backward(pass, it, n);                                                       \
    }

// Whole passes, and what else the training loop calls.
Status nn_forward(const NnPass<float>& pass);
Status nn_forward(const NnPass<double>& pass);
Status nn_backward(const NnPass<float>& pass);
Status nn_backward(const NnPass<double>& pass);
Status nn_loss(const NnLossJob<float>& job);
Status nn_loss(const NnLossJob<double>& job);
Status nn_update(const NnUpdateJob<float>& job);
Status nn_update(const NnUpdateJob<double>& job);
Status nn_train(const NnTrainJob<float>& job);
Status nn_train(const NnTrainJob<double>& job);
Status nn_evaluate(const NnTrainJob<float>& job);
Status nn_evaluate(const NnTrainJob<double>& job);

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
