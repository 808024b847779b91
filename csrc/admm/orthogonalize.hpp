// Newton-Schulz orthogonalisation: what the driver takes.
#pragma once

#include <cstdint>

#include "../core/status.hpp"

namespace hl {

// X <- X / (||X||_F + 1e-7), then `steps` times A = X X', X <- a X + (b A + c A^2) X, for every
// matrix of a batch.
template <class T>
struct OrthogonalizeJob {
    std::int64_t count, rows, columns;
    const T* matrices;
    T* out;
    int steps;
    T a, b, c;
    int num_threads;
};

struct OrthogonalizeTable {
    Status (*f32)(const OrthogonalizeJob<float>&);
    Status (*f64)(const OrthogonalizeJob<double>&);
};

}  // namespace hl
