// What the drivers of sgd take and which ones there are. Shared by every instruction-set level, the
// CUDA drivers and the binding.
#pragma once

#include <cstdint>

#include "../core/status.hpp"

namespace hl {

enum class Schedule : std::int32_t { constant = 0, polynomial = 1, piecewise = 2 };
enum class Projection : std::int32_t { none = 0, box = 1, ball = 2 };

// What is done to each gradient and each next iterate (step_rules.hpp). Nothing by default.
template <class T>
struct SgdRules {
    bool clips = false, decays = false;
    T clip_norm = 0, weight_decay = 0;

    Projection projection = Projection::none;
    const T* low = nullptr;  // (d,) of the box
    const T* high = nullptr;
    const T* center = nullptr;  // (d,) of the ball
    T radius = 0;

    Schedule schedule = Schedule::constant;
    double exponent = 0;
    double schedule_offset = 0;
    const std::int64_t* boundaries = nullptr;  // (num_boundaries,)
    const double* factors = nullptr;           // (num_boundaries + 1,)
    std::int64_t num_boundaries = 0;
    std::int64_t origin = 0;  // global index of the first step of these chains

    HL_MEMBER bool trivial() const {
        return !clips && !decays && projection == Projection::none &&
               schedule == Schedule::constant;
    }
};

// What the averaged steps add to besides the sums (step_statistics.hpp); null: not asked for. P is
// J + 1 paths when J > 1, the last of them extrapolated, else 1.
struct SgdStatistics {
    std::int64_t count = 0;           // averaged steps before the first one of this call
    const double* weights = nullptr;  // (J,) or (C, J): what extrapolates
    std::int64_t weight_stride = 0;   // 0 or J
    const double* shift = nullptr;    // (C, J, d) the iterate before the first averaged step

    double* path = nullptr;  // (C, slots, J, d) the sums after every `stride` averaged steps
    std::int64_t slots = 0, stride = 1;

    double* squares = nullptr;   // (C, P, d) sum over s of S_s^2, S_s the centred sums
    double* products = nullptr;  // (C, J, d) sum over s of s S_s

    double* second = nullptr;  // (C, P, d), or (C, P, d (d + 1) / 2) when `full`
    bool full = false;

    double* plug_hessian = nullptr;  // (C, d (d + 1) / 2)
    double* plug_outer = nullptr;    // (C, d (d + 1) / 2)

    HL_MEMBER bool any() const {
        return path != nullptr || squares != nullptr || products != nullptr || second != nullptr ||
               plug_hessian != nullptr || plug_outer != nullptr;
    }
};

// One call: `num_steps` steps of C chains, each with J copies that differ in their step size and
// see the same noise.
template <class T>
struct SgdChains {
    T* theta;                   // (C, J, d) state, advanced in place
    double* sums;               // (C, J, d) sums of the iterates, added to when `accumulate`
    std::uint8_t* flags;        // (C, J) 1: diverged and frozen
    std::int64_t* diverged_at;  // (C, J) the step whose result left the range, else -1
    const T* step_sizes;        // (J,) or (C, J)
    std::int64_t num_chains, num_step_sizes, dim;
    std::uint64_t seed;
    std::int64_t chain_offset;  // global index of the first chain
    std::int64_t first_step;    // global index of the first step
    std::int64_t num_steps;
    bool accumulate;
    T divergence_limit;  // a coordinate beyond it, or not finite, freezes its copy of the chain
    int num_threads;

    std::int64_t step_size_stride = 0;  // 0 when all chains have the same step sizes, else J
    T* auxiliary = nullptr;             // (C, num_auxiliary) what a problem carries along
    std::int64_t num_auxiliary = 0;
    SgdRules<T> rules{};
    SgdStatistics statistics{};
};

enum class NoiseLaw : std::int32_t {
    gaussian = 0,
    uniform = 1,
    rademacher = 2,
    laplace = 3,
    student_t = 4,
    none = 5,
    table = 6,
};

// The law of additive noise (step_noise.hpp).
template <class T>
struct SgdNoise {
    NoiseLaw law = NoiseLaw::gaussian;
    double df = 0;                // degrees of freedom of Student's t
    const T* table = nullptr;     // (table_size,)
    std::int64_t table_size = 0;  // at most 2^20
};

// f(t) = sum_i a_i (t_i - t*_i)^2 / 2, noise s_i xi_i.
template <class T>
struct SgdQuadratic {
    const T* curvature;    // (d,)
    const T* minimizer;    // (d,)
    const T* noise_scale;  // (d,)
    SgdNoise<T> noise{};
};

// f(t) = (t - t*)^T A (t - t*) / 2, noise B xi with B lower triangular.
template <class T>
struct SgdQuadraticFull {
    const T* matrix;        // (d, d)
    const T* minimizer;     // (d,)
    const T* noise_factor;  // (d, d)
    SgdNoise<T> noise{};
};

// f(t) = sum_i t_i^2 + cos(t_i + phase), noise s xi_i.
template <class T>
struct SgdCosine {
    T phase, noise_scale;
    SgdNoise<T> noise{};
};

enum class Sampling : std::int32_t { iid = 0, reshuffle = 1, sequential = 2 };

// Mean loss (step_losses.hpp) over the rows of a data matrix plus l2 |t|^2 / 2.
template <class T>
struct SgdRows {
    const T* features;  // (N, d)
    const T* targets;   // (N,) real values, counts, or labels: 0 and 1, of hinges -1 and 1
    std::int64_t num_rows, batch_size;
    Sampling sampling;
    T l2;
    T shape = 0;  // the parameter of the loss, for those that have one
};

// One row a step, made in the kernel (step_streaming.hpp); mean loss plus l2 |t|^2 / 2.
template <class T>
struct SgdStreaming {
    const T* theta_true;  // (d,)
    const T* factor;      // (d,) diagonal, or (d, d) lower triangular when `full`
    bool full;
    T noise_scale;  // of the targets of a linear model
    T l2;
    bool autoregressive;  // the normals of the last step are the auxiliary numbers
    T rho, root;          // root = sqrt(1 - rho^2)
};

// t <- t + gamma (A[s] t + b[s]); the auxiliary number is the state s of the chain.
template <class T>
struct SgdMarkov {
    const T* matrices;               // (S, d, d)
    const T* offsets;                // (S, d)
    const std::uint32_t* threshold;  // (S, S) alias tables of the transitions
    const std::int32_t* alias;       // (S, S)
    std::int64_t num_states;         // at most 4096
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
    SgdKernel<T, SgdRows> huber;
    SgdKernel<T, SgdRows> squared_hinge;
    SgdKernel<T, SgdRows> softplus_hinge;
    SgdKernel<T, SgdRows> poisson;
    SgdKernel<T, SgdStreaming> streaming_least_squares;
    SgdKernel<T, SgdStreaming> streaming_logistic;
    SgdKernel<T, SgdMarkov> markov_lsa;
    SgdKernel<T, SgdCustom> custom;
};

struct SgdTable {
    SgdKernels<float> f32;
    SgdKernels<double> f64;
};

}  // namespace hl
