// The grid code around a gradient that a user wrote in CUDA C++. hotloops compiles it at run time;
// nvcc takes it too.
//
//     __device__ int gradient(const float* theta, const float* noise, long long step,
//                             const void* data, float* out);
//     HL_SGD_CUSTOM_KERNEL(kernel, float, gradient, dim, copies, num_normals, num_uniforms)
//
// `noise` holds the normals, then the uniforms, the same for all copies of a chain. A gradient that
// returns anything but 0 stops the run. HL_SGD_CUSTOM_GENERAL_KERNEL takes rules and statistics
// too and needs a workspace.
#pragma once

#include "../core/cuda_device.cuh"
#include "../core/pack_memory.hpp"
#include "cuda_chain.cuh"
#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// Beyond this many coordinates in all copies the state of a chain stays where it lies.
constexpr int custom_most_held = 256;

// What a kernel leaves behind when a gradient fails: the first such chain and what it returned.
HL_DEVICE unsigned long long custom_failure(std::int64_t chain, std::int32_t returned) {
    return static_cast<unsigned long long>(chain) << 32 | static_cast<std::uint32_t>(returned);
}
constexpr unsigned long long custom_no_failure = ~0ull;

template <class T, int normals, int uniforms>
struct CustomNoise {
    PhiloxKey key;
    PackRows<T> normal_rows, uniform_rows;
    T value[normals + uniforms + 1];

    HL_DEVICE_MEMBER CustomNoise(const SgdChains<T>& chains, std::int64_t chain)
        : key(philox_key(chains.seed)) {
        const std::uint64_t row = static_cast<std::uint64_t>(chains.chain_offset + chain);
        normal_rows = PackRows<T>::prepare(row, chains.first_step,
                                           static_cast<std::uint32_t>(Stream::noise), key);
        uniform_rows = PackRows<T>::prepare(row, chains.first_step,
                                            static_cast<std::uint32_t>(Stream::labels), key);
    }

    HL_DEVICE_MEMBER void draw(std::int64_t step) {
        T block[4];
        for (int i = 0; i < normals; i += 4) {
            draw_normals(normal_rows, step, static_cast<std::uint32_t>(i >> 2), key, block);
            for (int c = 0; c < 4 && i + c < normals; ++c)
                value[i + c] = block[c];
        }
        for (int i = 0; i < uniforms; i += 4) {
            draw_uniforms(uniform_rows, step, static_cast<std::uint32_t>(i >> 2), key, block);
            for (int c = 0; c < 4 && i + c < uniforms; ++c)
                value[normals + i + c] = block[c];
        }
    }
};

// One step of one copy; 0, or what the gradient returned.
template <class T, int dim, class Gradient>
HL_DEVICE std::int32_t custom_step(const SgdChains<T>& chains, Gradient gradient, const void* data,
                                   const T* noise, std::int64_t step, std::int64_t cell,
                                   T step_size, T* theta) {
    T g[dim];
    const std::int32_t returned = gradient(theta, noise, step, data, g);
    if (returned != 0) return returned;
    bool good = true;
    for (int i = 0; i < dim; ++i)
        good = good && within(sgd_update(theta[i], step_size, g[i]), chains.divergence_limit);
    if (good) {
        for (int i = 0; i < dim; ++i)
            theta[i] = sgd_update(theta[i], step_size, g[i]);
    } else {
        chains.flags[cell] = 1;
        chains.diverged_at[cell] = step;
    }
    return 0;
}

// Without rules and statistics: the state in registers, unless it is long.
template <class T, int dim, int copies, int normals, int uniforms, class Gradient>
HL_DEVICE void run_custom_chain(const SgdChains<T>& chains, std::int64_t chain, Gradient gradient,
                                const void* data, unsigned long long* failed) {
    constexpr int size = copies * dim;
    constexpr bool held = size <= custom_most_held;
    T held_theta[held ? size : 1];
    double held_sums[held ? size : 1];
    const std::int64_t first_cell = chain * copies;
    const T* const step_sizes = chains.step_sizes + chain * chains.step_size_stride;
    T* const theta = held ? held_theta : chains.theta + first_cell * dim;
    double* const sums = held ? held_sums : chains.sums + first_cell * dim;
    for (int i = 0; held && i < size; ++i) {
        theta[i] = chains.theta[first_cell * dim + i];
        sums[i] = chains.sums[first_cell * dim + i];
    }
    CustomNoise<T, normals, uniforms> noise(chains, chain);
    const std::int64_t end = chains.first_step + chains.num_steps;
    for (std::int64_t step = chains.first_step; step < end; ++step) {
        noise.draw(step);
        for (int j = 0; j < copies; ++j) {
            if (chains.flags[first_cell + j] == 0) {
                const std::int32_t returned =
                    custom_step<T, dim>(chains, gradient, data, noise.value, step, first_cell + j,
                                        step_sizes[j], theta + j * dim);
                if (returned != 0) {
                    atomicMin(failed, custom_failure(chain, returned));
                    return;
                }
            }
            for (int i = j * dim; chains.accumulate && i < (j + 1) * dim; ++i)
                accumulate(sums + i, theta[i]);
        }
    }
    for (int i = 0; held && i < size; ++i) {
        chains.theta[first_cell * dim + i] = theta[i];
        chains.sums[first_cell * dim + i] = sums[i];
    }
}

// The problem of run_chain.
template <class T, int dim, int normals, int uniforms, class Gradient>
struct CustomPull {
    const SgdChains<T>& chains;
    std::int64_t chain;
    Gradient gradient;
    const void* data;
    unsigned long long* failed;
    CustomNoise<T, normals, uniforms> noise;

    HL_DEVICE_MEMBER CustomPull(const SgdChains<T>& all, std::int64_t index, Gradient user,
                                const void* user_data, unsigned long long* failure)
        : chains(all),
          chain(index),
          gradient(user),
          data(user_data),
          failed(failure),
          noise(all, index) {}

    HL_DEVICE_MEMBER bool gradients(const ChainLanes<T>& lanes, std::int64_t step, bool) {
        noise.draw(step);
        T theta[dim], g[dim];
        for (std::int64_t j = 0; j < lanes.copies; ++j) {
            if (chains.flags[chain * lanes.copies + j] != 0) continue;
            for (int i = 0; i < dim; ++i)
                theta[i] = lanes.theta[j * dim + i];
            const std::int32_t returned = gradient(theta, noise.value, step, data, g);
            if (returned != 0) {
                atomicMin(failed, custom_failure(chain, returned));
                return false;
            }
            for (int i = 0; i < dim; ++i)
                lanes.next[j * dim + i] = g[i];
        }
        return true;
    }
    HL_DEVICE_MEMBER void transition(std::int64_t) const {}
    HL_DEVICE_MEMBER void store() const {}
};

// The steps of one launch out of those of `given`.
template <class T>
HL_DEVICE SgdChains<T> custom_launch(const SgdChains<T>& given, std::int64_t first_step,
                                     std::int64_t num_steps) {
    SgdChains<T> chains = given;
    chains.statistics.count += first_step - chains.first_step;
    chains.first_step = first_step;
    chains.num_steps = num_steps;
    return chains;
}

// Whether an earlier launch has failed.
HL_DEVICE bool custom_failed(const unsigned long long* failed) {
    return *static_cast<const volatile unsigned long long*>(failed) != custom_no_failure;
}

template <class T, int dim, int copies, int normals, int uniforms, class Gradient>
HL_DEVICE void run_custom_chains(const SgdChains<T>& chains, Gradient gradient, const void* data,
                                 unsigned long long* failed) {
    if (custom_failed(failed)) return;
    for (std::int64_t chain = grid_thread(); chain < chains.num_chains; chain += grid_threads())
        run_custom_chain<T, dim, copies, normals, uniforms>(chains, chain, gradient, data, failed);
}

template <class T, int dim, int normals, int uniforms, class Gradient>
HL_DEVICE void run_custom_general(const SgdChains<T>& chains, Gradient gradient, const void* data,
                                  unsigned long long* failed, double* workspace) {
    if (custom_failed(failed)) return;
    run_chains(chains, workspace, 0, [&](std::int64_t chain, Lane<T>) {
        return CustomPull<T, dim, normals, uniforms, Gradient>(chains, chain, gradient, data,
                                                               failed);
    });
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

// `gradient` as the grid code calls it.
#define HL_SGD_CUSTOM_CALL(T, gradient)                                                  \
    [](const T* t, const T* noise, std::int64_t step, const void* data, T* out) -> int { \
        return gradient(t, noise, static_cast<long long>(step), data, out);              \
    }

// The kernel of one launch: `steps` steps from `first` on out of those of `given`.
#define HL_SGD_CUSTOM_KERNEL(name, T, gradient, dim, copies, num_normals, num_uniforms)     \
    extern "C" __global__ void name(const hl::SgdChains<T>* given, std::int64_t first,      \
                                    std::int64_t steps, const void* data,                   \
                                    unsigned long long* failed, double*) {                  \
        hl::run_custom_chains<T, dim, copies, num_normals, num_uniforms>(                   \
            hl::custom_launch(*given, first, steps), HL_SGD_CUSTOM_CALL(T, gradient), data, \
            failed);                                                                        \
    }

#define HL_SGD_CUSTOM_GENERAL_KERNEL(name, T, gradient, dim, copies, num_normals, num_uniforms) \
    extern "C" __global__ void name(const hl::SgdChains<T>* given, std::int64_t first,          \
                                    std::int64_t steps, const void* data,                       \
                                    unsigned long long* failed, double* workspace) {            \
        hl::run_custom_general<T, dim, num_normals, num_uniforms>(                              \
            hl::custom_launch(*given, first, steps), HL_SGD_CUSTOM_CALL(T, gradient), data,     \
            failed, workspace);                                                                 \
    }
