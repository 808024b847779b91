// What each averaged step adds to the statistics, in double: W is one number or a pack of them. All
// are plain sums in the order of the steps.
#pragma once

#include "kernels.hpp"
#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// The sum of s iterates relative to a fixed shift: the sums of random scaling grow as s^3 and would
// cancel otherwise.
template <class W>
HL_INLINE W centred_sum(W sum, double count, W shift) {
    return sum - count * shift;
}

// Random scaling needs sum_s S_s^2 and sum_s s S_s of the centred sums S_s (S. Lee et al., "Fast
// and robust online inference with stochastic gradient descent via random scaling", AAAI 2022).
template <class W>
HL_INLINE W add_square(W total, W centred) {
    return total + centred * centred;
}

template <class W>
HL_INLINE W add_product(W total, double count, W centred) {
    return total + count * centred;
}

// w_0 x_0 + w_1 x_1 + ... over the copies, left to right; copy j is at x[j * stride].
template <class W>
HL_INLINE W extrapolate(const W* weights, const W* x, std::int64_t stride, std::int64_t copies) {
    W total = weights[0] * x[0];
    for (std::int64_t j = 1; j < copies; ++j)
        total = total + weights[j] * x[j * stride];
    return total;
}

// Where entry (i, k), k <= i, of a symmetric matrix is kept: lower triangle by rows.
HL_INLINE std::int64_t triangle(std::int64_t i, std::int64_t k) {
    return i * (i + 1) / 2 + k;
}

// The running mean of iterates, where the plug-in estimate takes gradients and Hessians, from their
// sum and from 1 / their number: dividing each coordinate in each step would cost more than the
// matrices.
template <class W>
HL_INLINE W running_mean(W sum, double inverse_count) {
    return sum * inverse_count;
}

// What a row adds to entry (i, k) of the sum of Hessians.
template <class W>
HL_INLINE W add_hessian(W total, W curvature, W x_i, W x_k) {
    return total + (curvature * x_i) * x_k;
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
