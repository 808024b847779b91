// Distances between all rows of two sets, and sums of kernels over them.
#pragma once

#include <cstdint>

#include "../core/status.hpp"

namespace hl {

enum class Distance : std::int32_t { squared = 0, absolute = 1 };

// The columns of `y` are its points: (dim, stride), where the stride is the number of points up to
// a whole number of groups of 16; the points that fill it up are at infinity.
constexpr std::int64_t point_group = 16;

struct PairJob {
    std::int64_t x_count, y_count, dim, stride;
    const double* x;  // (x_count, dim)
    const double* y;  // (dim, stride)
    int num_threads;
};

// The sum over all pairs of sum_s exp(scales[s] d^2). A task is 64 rows of x and leaves its sum in
// `partial`. When y holds the points of x, the pairs of each two different groups are visited once.
constexpr std::int64_t kernel_rows = 64;

struct KernelSumJob {
    PairJob pairs;
    const double* scales;
    int num_scales;
    bool symmetric;
    double* partial;  // (tasks,)
};

struct DistanceJob {
    PairJob pairs;
    Distance distance;
    double* out;  // (x_count, y_count)
};

struct MetricsTable {
    Status (*kernel_sum)(const KernelSumJob&);
    Status (*distances)(const DistanceJob&);
};

}  // namespace hl
