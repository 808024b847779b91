// Batches of flow matching: what the driver takes.
#pragma once

#include <cstdint>

#include "../nn/kernels.hpp"

namespace hl {

// The context of NnPrepare. Batches of num_steps steps from first_step on can be made.
template <class T>
struct FlowMatching {
    const T* z;  // (n, d)
    std::int64_t n, d;
    const T* sizes;  // (num_sizes, n)
    std::int64_t num_sizes;
    const std::int32_t* labels;  // (num_labels, n)
    std::int64_t num_labels;
    const std::int64_t* rows;  // (num_steps, size): of the training set
    std::int64_t num_steps, size, first_step;
    double sigma, p_cond;
    bool optimal;     // the path of optimal transport
    bool per_batch;   // labels are dropped for all rows together
    bool together;    // all labels are seen at once, or one of them
    bool antithetic;  // times are evenly spread
    std::uint64_t seed;
};

struct FlowMatchingTable {
    NnPrepare<float> f32;
    NnPrepare<double> f64;
};

}  // namespace hl
