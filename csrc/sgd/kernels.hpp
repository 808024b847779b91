// What the drivers of sgd take and which ones there are. Shared by every instruction-set level, the
// CUDA drivers and the binding.
#pragma once

#include <cstdint>

#include "../core/status.hpp"

namespace hl {

// One call: `num_steps` steps of C chains, each with J copies that differ in their step size and
// see the same noise.
template <class T>
struct SgdChains {
    T* theta;                   // (C, J, d) state, advanced in place
    double* sums;               // (C, J, d) sums of the iterates, added to when `accumulate`
    std::uint8_t* flags;        // (C, J) 1: diverged and frozen
    std::int64_t* diverged_at;  // (C, J) the step whose result left the range, else -1
    const T* step_sizes;        // (J,)
    std::int64_t num_chains, num_step_sizes, dim;
    std::uint64_t seed;
    std::int64_t chain_offset;  // global index of the first chain
    std::int64_t first_step;    // global index of the first step
    std::int64_t num_steps;
    bool accumulate;
    T divergence_limit;  // a coordinate beyond it, or not finite, freezes its copy of the chain
    int num_threads;
};

// f(t) = sum_i a_i (t_i - t*_i)^2 / 2, noise s_i xi_i.
template <class T>
struct SgdQuadratic {
    const T* curvature;    // (d,)
    const T* minimizer;    // (d,)
    const T* noise_scale;  // (d,)
};

// f(t) = (t - t*)^T A (t - t*) / 2, noise B xi with B lower triangular.
template <class T>
struct SgdQuadraticFull {
    const T* matrix;        // (d, d)
    const T* minimizer;     // (d,)
    const T* noise_factor;  // (d, d)
};

// f(t) = sum_i t_i^2 + cos(t_i + phase), noise s xi_i.
template <class T>
struct SgdCosine {
    T phase, noise_scale;
};

enum class Sampling : std::int32_t { iid = 0, reshuffle = 1, sequential = 2 };

// Mean loss over the rows of a data matrix plus l2 |t|^2 / 2.
template <class T>
struct SgdRows {
    const T* features;  // (N, d)
    const T* targets;   // (N,) real values, or labels 0 and 1
    std::int64_t num_rows, batch_size;
    Sampling sampling;
    T l2;
};

// A gradient of the user's. `noise` holds the normals, then the uniforms. Non-zero stops the run.
template <class T>
using SgdGradient = std::int32_t (*)(const T* theta, const T* noise, std::int64_t step,
                                     const void* data, T* gradient);

template <class T>
struct SgdCustom {
    SgdGradient<T> gradient;
    const void* data;
    std::int64_t num_normals, num_uniforms;
};

template <class T, template <class> class Problem>
using SgdKernel = Status (*)(const SgdChains<T>& chains, const Problem<T>& problem);

template <class T>
struct SgdKernels {
    SgdKernel<T, SgdQuadratic> quadratic;
    SgdKernel<T, SgdQuadraticFull> quadratic_full;
    SgdKernel<T, SgdCosine> cosine;
    SgdKernel<T, SgdRows> least_squares;
    SgdKernel<T, SgdRows> logistic;
    SgdKernel<T, SgdCustom> custom;
};

struct SgdTable {
    SgdKernels<float> f32;
    SgdKernels<double> f64;
};

}  // namespace hl
