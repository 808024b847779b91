// What the drivers of simplex take and which ones there are. Shared by every instruction-set level
// and the binding.
#pragma once

#include <cstdint>

#include "../core/status.hpp"

namespace hl {

enum class SimplexForm : std::int32_t {
    entropic = 0,
    sphere = 1,
    projected = 2,
    linear = 3,
    metropolis = 4,   // the sphere form, adjusted
    accelerated = 5,  // three sequences of multiplicative weights, without noise
};

// What is added to every objective: rho |x|^2 + tau sum x log x + kappa sum sqrt((x - x0)^2 + h^2)
// + penalty (sum_s max(x_s - u_s, 0)^2 + sum_g max(sum_{s in g} x_s - cap_g, 0)^2).
template <class T>
struct SimplexTerms {
    T ridge, entropy, turnover, smoothing, penalty;
    const T* anchor;                    // (d,)
    const T* upper;                     // (d,) or null
    const T* caps;                      // (G,)
    const std::int32_t* group_offsets;  // (G + 1,)
    const std::int32_t* group_members;
    std::int64_t num_groups;
    bool any;
};

// One call: `num_steps` steps of C chains on a product of simplices, laid end to end in x. Without
// steps it evaluates the objective.
template <class T>
struct SimplexChains {
    T* x;                     // (C, d) state, advanced in place
    T* value;                 // (C,) the objective at x, written at the end
    T* gradient;              // (C, d) its gradient at x, written at the end; may be null
    T* best_x;                // (C, d)
    T* best_value;            // (C,) the lowest objective met so far
    T* smallest;              // (C,) the smallest coordinate met so far
    double* sums;             // (C, d) sums of x, added to when `accumulate`
    double* squares;          // (C, d) of x^2
    double* products;         // (C, d, d) of x_i x_j; may be null
    std::int64_t* histogram;  // (C, d, B) counts of x on B equal parts of [0, 1]; may be null
    std::int64_t num_bins;
    std::int64_t* floored;    // (C,) coordinates that were lifted to the floor
    std::int64_t* clipped;    // (C,) steps in which an exponent was cut
    std::int64_t* accepted;   // (C,) steps that the metropolis form accepted
    std::uint8_t* flags;      // (C,) 1: a step was not finite, and the chain is frozen
    std::int64_t* failed_at;  // (C,) that step, else -1
    T* auxiliary;             // (C, d + 1) v and gamma of the accelerated form, else null
    const T* step_sizes;      // (C,)
    const T* temperatures;    // (C,) 1 / beta
    const T* accelerations;   // (C,) a of the accelerated form, else null
    const T* step_factors;    // (num_steps,) of the schedules; may be null
    const T* temperature_factors;
    const T* noise;               // (C, d) normals to take instead of drawing them; may be null
    const T* alpha;               // (d,) base measure
    const std::int32_t* offsets;  // (N + 1,) where each simplex begins
    std::int64_t num_chains, dim, num_simplices;
    std::uint64_t seed;
    std::int64_t chain_offset;  // global index of the first chain
    std::int64_t first_step;    // global index of the first step
    std::int64_t num_steps;
    SimplexForm form;
    bool noisy;      // a temperature is above zero
    bool corrected;  // alpha is not the one for which the form needs no drift
    bool accumulate;
    T floor_scale;  // floor = max(floor_scale 2 eps / beta, floor_least), at most 1 / (4 n)
    T floor_least;
    T clip;       // of exponents, and of the angle of the sphere form
    T convexity;  // mu of the accelerated form
    SimplexTerms<T> terms;
    int num_threads;
};

// f = sum over blocks of sum_{r, q} a_rq p_r p_q, r from the block's rows and q from its columns.
// The p are a list of products: 1, x_0 .. x_{d-1}, and then p_parent x_s with a parent from earlier
// in the list; products of the same parent are neighbours.
template <class T>
struct SimplexPolynomial {
    const std::int32_t* parents;  // (P,) of the products after x_{d-1}
    const std::int32_t* factors;  // (P,) 1 + s, the place of x_s in the list
    const std::int32_t* heights;  // (B,) rows of a block: 1, 2 or 4, all different
    const std::int32_t* widths;   // (B,) its columns
    const std::int32_t* rows;     // (R,) places in the list, block after block
    const std::int32_t* columns;  // (C,)
    const T* coefficients;        // (M,) block after block, in each column after column
    std::int64_t num_products, num_blocks, num_coefficients;
};

// x^T Q x + c . x with Q symmetric.
template <class T>
struct SimplexQuadratic {
    const T* matrix;  // (d, d)
    const T* linear;  // (d,)
};

// q of a sum of ridge functions.
enum class SimplexProfile : std::int32_t {
    polynomial = 0,       // sum_k a_k y^k
    row_polynomials = 1,  // the same with coefficients of each row
    power_utility = 2,    // -U(1 + y), U(W) = (W^(1 - a) - 1) / (1 - a): constant relative aversion
    log_utility = 3,      // -log(1 + y)
    exponential_utility = 4,  // -U(1 + y), U(W) = -exp(-a W) / a: constant absolute aversion
    standardised = 5,  // a_0 m_2 + a_1 m_3 / m_2^(3/2) + a_2 m_4 / m_2^2, m_k = sum_t w_t y_t^k
};

constexpr std::int32_t max_profile_coefficients = 9;

// c . x + sum_t w_t q(y_t), y_t = (r_t - m) . x; the moments of `standardised` take the place of
// the sum. With a batch, the sum is T / b times that over b rows drawn anew for each step and
// chain.
template <class T>
struct SimplexRidgeSum {
    const T* rows;     // (T, d)
    const T* weights;  // (T,)
    const T* center;   // (d,)
    const T* linear;   // (d,)
    SimplexProfile profile;
    const T* coefficients;  // (K,), or (T, K) for row_polynomials
    std::int64_t num_rows;
    std::int32_t num_coefficients;
    std::int64_t batch_size;  // 0: all rows
};

// What is known already: lmwu_step.
template <class T>
struct SimplexGiven {
    const T* gradient;  // (C, d)
};

// An objective of the user's: writes the gradient and returns the value.
template <class T>
using SimplexFunction = T (*)(const T* x, const void* data, T* gradient);

template <class T>
struct SimplexCustom {
    SimplexFunction<T> function;
    const void* data;
};

template <class T, template <class> class Problem>
using SimplexKernel = Status (*)(const SimplexChains<T>& chains, const Problem<T>& problem);

template <class T>
struct SimplexKernels {
    SimplexKernel<T, SimplexPolynomial> polynomial;
    SimplexKernel<T, SimplexQuadratic> quadratic;
    SimplexKernel<T, SimplexRidgeSum> ridge_sum;
    SimplexKernel<T, SimplexGiven> given;
    SimplexKernel<T, SimplexCustom> custom;
    // Euclidean projection of rows onto one simplex: x (rows, dim) in place.
    Status (*project)(T* x, std::int64_t rows, std::int64_t dim, int num_threads);
};

struct SimplexTable {
    SimplexKernels<float> f32;
    SimplexKernels<double> f64;
};

}  // namespace hl
