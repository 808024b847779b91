// Proximal operators: what the drivers take and which ones there are. `out` may be `v` itself.
//
// `not_finite`, where it is not null, becomes one if v holds a NaN or an infinity. It is looked for
// piece by piece, just before a piece is worked on, so that memory is read once; `out` is spoilt
// then, and the caller must not have given it away.
#pragma once

#include <cstdint>

#include "../core/status.hpp"
#include "step.hpp"
#include "step_rows.hpp"

namespace hl {

template <class T>
struct ElementJob {
    ProxOperation operation;
    std::int64_t rows, columns;
    const T* v;
    T* out;
    const T* constants;            // (constants, 1 or rows, 1 or columns)
    std::int64_t constant_stride;  // from one constant to the next
    std::int64_t row_stride;       // of the constants: 0 when all rows share them
    bool by_column;                // whether each column has constants of its own
    std::int32_t* not_finite;
    int num_threads;
};

template <class T>
struct RowJob {
    RowOperation operation;
    std::int64_t rows, columns;
    const T* v;
    T* out;
    const double* numbers;  // (1 or rows,)
    std::int64_t number_stride;
    int num_threads;
};

// Soft thresholding by `soft`, then for every group g shrinking by `shrink` weights[g].
template <class T>
struct GroupJob {
    std::int64_t rows, columns, groups;
    const T* v;
    T* out;
    const std::int64_t* offsets;  // (groups + 1,)
    const std::int64_t* indices;  // (columns,) the groups' elements, or null when they lie in order
    const double* weights;        // (groups,)
    const double* soft;           // (1 or rows,)
    const double* shrink;         // (1 or rows,)
    std::int64_t number_stride;
    std::int32_t* not_finite;
    int num_threads;
};

template <class T>
struct TopJob {
    std::int64_t rows, columns, keep;
    const T* v;
    T* out;
    int num_threads;
};

// t lambda of the total variation.
template <class T>
struct VariationJob {
    std::int64_t rows, columns;
    const T* v;
    T* out;
    const double* numbers;
    std::int64_t number_stride;
    int num_threads;
};

template <class T>
struct ProxKernels {
    Status (*elements)(const ElementJob<T>&);
    Status (*rows)(const RowJob<T>&);
    Status (*groups)(const GroupJob<T>&);
    Status (*top)(const TopJob<T>&);
    Status (*variation)(const VariationJob<T>&);
};

struct ProxTable {
    ProxKernels<float> f32;
    ProxKernels<double> f64;
};

}  // namespace hl
