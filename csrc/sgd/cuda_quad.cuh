// Four coordinates of up to four copies of one chain, in the registers of one thread, for the
// gradients that act on each coordinate alone.
#pragma once

#include "../core/cuda_device.cuh"
#include "../core/pack_memory.hpp"
#include "cuda.hpp"
#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// a (t - t*) + s xi for four coordinates.
template <class T>
struct QuadraticQuad {
    using Parameters = SgdQuadratic<T>;
    T curvature[4], minimizer[4], noise_scale[4];

    HL_DEVICE_MEMBER QuadraticQuad(const Parameters& p, std::int64_t first, int count) {
        for (int c = 0; c < 4; ++c) {
            curvature[c] = c < count ? p.curvature[first + c] : T(0);
            minimizer[c] = c < count ? p.minimizer[first + c] : T(0);
            noise_scale[c] = c < count ? p.noise_scale[first + c] : T(0);
        }
    }
    HL_DEVICE_MEMBER T operator()(int c, T theta, T noise) const {
        return quadratic_gradient(theta, curvature[c], minimizer[c], noise_scale[c], noise);
    }
};

// 2 t - sin(t + phase) + s xi.
template <class T>
struct CosineQuad {
    using Parameters = SgdCosine<T>;
    Parameters p;

    HL_DEVICE_MEMBER CosineQuad(const Parameters& parameters, std::int64_t, int) : p(parameters) {}
    HL_DEVICE_MEMBER T operator()(int, T theta, T noise) const {
        return cosine_gradient(theta, p.phase, p.noise_scale, noise);
    }
};

// Four coordinates of J copies of one chain.
template <class T, int J, class Gradient>
struct Quad {
    T theta[J][4], next[J][4], step_size[J];
    double sums[J][4];
    unsigned frozen;  // bit j: copy j
    int count;        // coordinates that exist; 0 for a thread without a chain
    std::int64_t first, cell;
    std::uint32_t block;
    Gradient gradient;
    PackRows<T> rows;
    PhiloxKey key;

    HL_DEVICE_MEMBER Quad(const SgdChains<T>& chains, const typename Gradient::Parameters& p,
                          std::int64_t chain, std::int64_t block_index, std::int64_t first_copy,
                          bool live)
        : frozen(0),
          count(live ? static_cast<int>(min_of(chains.dim - 4 * block_index, 4)) : 0),
          first(4 * block_index),
          cell(chain * chains.num_step_sizes + first_copy),
          block(static_cast<std::uint32_t>(block_index)),
          gradient(p, 4 * block_index, count),
          key(philox_key(chains.seed)) {
        rows =
            PackRows<T>::prepare(static_cast<std::uint64_t>(chains.chain_offset + chain),
                                 chains.first_step, static_cast<std::uint32_t>(Stream::noise), key);
        for (int j = 0; j < J; ++j) {
            step_size[j] = chains.step_sizes[chain * chains.step_size_stride + first_copy + j];
            for (int c = 0; c < 4; ++c) {
                theta[j][c] = c < count ? chains.theta[at(chains, j, c)] : T(0);
                sums[j][c] = c < count ? chains.sums[at(chains, j, c)] : 0.0;
            }
        }
    }

    HL_DEVICE_MEMBER std::int64_t at(const SgdChains<T>& chains, int j, int c) const {
        return (cell + j) * chains.dim + first + c;
    }

    HL_DEVICE_MEMBER void store(const SgdChains<T>& chains) const {
        for (int j = 0; j < J; ++j) {
            for (int c = 0; c < 4; ++c) {
                if (c >= count) continue;
                chains.theta[at(chains, j, c)] = theta[j][c];
                chains.sums[at(chains, j, c)] = sums[j][c];
            }
        }
    }

    // Writes `next`; returns the running copies of which a coordinate left the range.
    HL_DEVICE_MEMBER unsigned propose(std::int64_t step, T limit) {
        T noise[4];
        draw_normals(rows, step, block, key, noise);
        unsigned left = 0;
        for (int j = 0; j < J; ++j) {
            bool good = true;
            for (int c = 0; c < 4; ++c) {
                const T g = gradient(c, theta[j][c], noise[c]);
                next[j][c] = sgd_update(theta[j][c], step_size[j], g);
                good = good && (c >= count || within(next[j][c], limit));
            }
            left |= good ? 0u : 1u << j;
        }
        return left & ~frozen;
    }

    HL_DEVICE_MEMBER void commit(bool accumulate_sums) {
        for (int j = 0; j < J; ++j) {
            const bool stopped = (frozen >> j & 1u) != 0;
            for (int c = 0; c < 4; ++c) {
                theta[j][c] = stopped ? theta[j][c] : next[j][c];
                if (accumulate_sums) accumulate(&sums[j][c], theta[j][c]);
            }
        }
    }

  private:
    static HL_DEVICE_MEMBER std::int64_t min_of(std::int64_t a, std::int64_t b) {
        return a < b ? a : b;
    }
};

// Calls after(quad) when each step is made, and added to the sums.
template <class T, int J, class Gradient, class After>
HL_DEVICE void run_in_warp(const SgdChains<T>& chains, Quad<T, J, Gradient>& quad,
                           unsigned lanes_of_chain, After after) {
    for (int j = 0; j < J; ++j)
        quad.frozen |= chains.flags[quad.cell + j] != 0 ? 1u << j : 0u;
    const std::int64_t end = chains.first_step + chains.num_steps;
    for (std::int64_t step = chains.first_step; step < end; ++step) {
        const unsigned left = quad.propose(step, chains.divergence_limit);
        if (__any_sync(full_warp, left != 0)) {
            for (int j = 0; j < J; ++j) {
                if (!any_in_group((left >> j & 1u) != 0, lanes_of_chain)) continue;
                quad.frozen |= 1u << j;
                if (quad.count == 0 || quad.block != 0) continue;
                chains.flags[quad.cell + j] = 1;
                chains.diverged_at[quad.cell + j] = step;
            }
        }
        quad.commit(chains.accumulate);
        after(quad);
    }
}

// Chains of at most 32 blocks: as many in a warp as fit. Calls visit(chain, block, live, lanes),
// where `lanes` are the bits of the chain's group, for every thread and chain of its slot.
template <class T, class Visit>
HL_DEVICE void each_in_warp(const SgdChains<T>& chains, Visit visit) {
    const int blocks = static_cast<int>((chains.dim + 3) / 4);
    const int chains_per_warp = warp_lanes / blocks;
    const int lane = static_cast<int>(threadIdx.x) % warp_lanes;
    const int slot = lane / blocks;
    const bool spare = slot >= chains_per_warp;
    const unsigned lanes = spare ? 0u : full_warp >> (warp_lanes - blocks) << (slot * blocks);
    const std::int64_t stride = grid_threads() / warp_lanes * chains_per_warp;
    std::int64_t first = grid_thread() / warp_lanes * chains_per_warp;
    for (; first < chains.num_chains; first += stride) {
        const bool live = !spare && first + slot < chains.num_chains;
        visit(live ? first + slot : first, lane % blocks, live, lanes);
    }
}

template <class T>
bool fits_in_warp(const SgdChains<T>& chains) {
    return chains.dim <= 4 * warp_lanes;
}

// Threads of a grid of such chains.
template <class T>
std::int64_t threads_in_warps(const SgdChains<T>& chains) {
    const std::int64_t chains_per_warp = warp_lanes / ceil_div(chains.dim, 4);
    return ceil_div(chains.num_chains, chains_per_warp) * warp_lanes;
}

// Copies that one thread holds.
constexpr int most_quad_copies = 4;

// What a step of the four coordinates costs one thread.
template <class T>
double quad_cost(int copies) {
    return 240 * sgd_operation_cost<T> + 4 * copies * (8 * sgd_operation_cost<T> + sgd_sum_cost);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
