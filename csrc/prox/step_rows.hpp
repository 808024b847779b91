// Proximal operators of a row. Sums of a row are taken in double in 32 strands, element j in strand
// j mod 32, and the strands are added as a binary tree: an order that a processor of any vector
// width, and a warp of a GPU, can follow.
#pragma once

#include "../core/math.hpp"

namespace hl {

enum class RowOperation : std::int32_t {
    simplex = 0,  // number: z, the sum
    l1_ball = 1,  // number: the radius
    l_inf = 2,    // number: t lambda
    l2_ball = 3,  // number: the radius
    cone = 4,     // the second-order cone, whose height is the first element
};

constexpr int strands = 32;

inline namespace HL_ISA_NAMESPACE {

// Whether a sum of squares is far from the ends of the range of double.
template <class V>
HL_INLINE auto squares_are_safe(V sum) {
    return (sum > 1e-280) & (sum < 1e300);
}

// What a simplex-like projection needs of a row: sum, largest element.
struct RowSummary {
    double sum, largest;
};

// Elements that are at least theta: their sum and number.
struct Active {
    double sum, count;
};

// Finds theta with sum_j max(y_j - theta, 0) = z: Newton's iteration on this convex, piecewise
// linear function from a theta that is too small, which ends after finitely many steps (Michelot).
// `row.active(theta)` sums over one row.
template <class Row>
HL_INLINE double simplex_threshold(const Row& row, RowSummary summary, double size, double z) {
    const double from_mean = (summary.sum - z) / size;
    const double from_largest = summary.largest - z;
    double theta = from_mean > from_largest ? from_mean : from_largest;
    double count = size + 1.0;
    for (;;) {
        const Active active = row.active(theta);
        if (!(active.count < count) || active.count < 1.0) return theta;
        count = active.count;
        theta = (active.sum - z) / active.count;
    }
}

// The factor that brings a vector of this norm into the ball.
HL_INLINE double ball_factor(double norm, double radius) {
    return norm > radius ? radius / norm : 1.0;
}

// The factor of the prox of k times the Euclidean norm.
HL_INLINE double shrink_factor(double norm, double k) {
    return norm > k ? 1.0 - k / norm : 0.0;
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
