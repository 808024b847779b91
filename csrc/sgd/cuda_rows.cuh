// What the four lanes do that work on one copy of one chain of a loss over rows (cuda_rows.cu).
#pragma once

#include "../core/cuda_device.cuh"
#include "cuda.hpp"
#include "cuda_sampler.cuh"
#include "cuda_share.cuh"
#include "step.hpp"
#include "step_losses.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

constexpr int rows_threads_per_block = 128;
constexpr int lanes_per_copy = 4;
constexpr int copies_per_warp = warp_lanes / lanes_per_copy;

// (s0 + s1) + (s2 + s3), in each of the four lanes.
template <class T>
HL_DEVICE T add_strands(T strand) {
    strand = strand + __shfl_xor_sync(full_warp, strand, 1, lanes_per_copy);
    return strand + __shfl_xor_sync(full_warp, strand, 2, lanes_per_copy);
}

// Adds residual times row to `next` (or, for the first sample, writes it there).
template <class T, int R, class Loss>
HL_DEVICE void add_sample(Share<T, R>& share, const SgdRows<T>& p, std::int64_t dim, int lane,
                          std::int64_t row, bool first) {
    constexpr bool keep = R > 0 && R <= 16;  // the row too stays in registers
    T kept[keep ? R : 1];
    const T* const features = p.features + row * dim + lane;
    T strand = 0;
    share.each([&](auto r) {
        const T x = read_only(features + lanes_per_copy * r);
        if constexpr (keep) kept[r] = x;
        strand += x * share.theta(r);
    });
    const T residual = Loss::residual(add_strands(strand), read_only(p.targets + row), p.shape);
    share.each([&](auto r) {
        T x;
        if constexpr (keep) {
            x = kept[r];
        } else {
            x = read_only(features + lanes_per_copy * r);
        }
        const T product = residual * x;
        share.next(r) = first ? product : share.next(r) + product;
    });
}

// From the sum over the batch in `next` to the next iterate; false when it left the range.
template <class T, int R>
HL_DEVICE bool update_share(Share<T, R>& share, T inverse_batch, T l2, T step_size, T limit) {
    bool good = true;
    share.each([&](auto r) {
        const T g = share.next(r) * inverse_batch + l2 * share.theta(r);
        share.next(r) = sgd_update(share.theta(r), step_size, g);
        good = good && within(share.next(r), limit);
    });
    return good;
}

// The copy that four lanes of a warp work on. Lanes without one go along with `live` off.
struct CopyOfLanes {
    std::int64_t chain, cell;
    int lane;
    bool live;
};

// All steps of the copy; calls after(share) when each is made, and added to the sums.
template <class T, int R, class Loss, class After>
HL_DEVICE void run_copy(const SgdChains<T>& chains, const SgdRows<T>& p, const CopyOfLanes& copy,
                        Share<T, R>& share, After after) {
    const int slot = static_cast<int>(threadIdx.x) % warp_lanes / lanes_per_copy;
    const unsigned group = 0xfu << (slot * lanes_per_copy);
    const T one = 1;
    const T inverse_batch = one / static_cast<T>(p.batch_size);
    const T step_size = chains.step_sizes[copy.chain * chains.step_size_stride + copy.cell -
                                          copy.chain * chains.num_step_sizes];
    bool frozen = chains.flags[copy.cell] != 0;
    LaneSampler<T, lanes_per_copy> sampler(
        p, chains.seed, static_cast<std::uint64_t>(chains.chain_offset + copy.chain),
        chains.first_step, copy.lane);
    std::uint32_t ahead = 0;
    int turn = 0;
    const std::int64_t end = chains.first_step + chains.num_steps;
    for (std::int64_t step = chains.first_step; step < end; ++step) {
        for (std::int64_t r = 0; r < p.batch_size; ++r) {
            if (turn == 0) ahead = sampler.next();
            const std::uint32_t row = __shfl_sync(full_warp, ahead, turn, lanes_per_copy);
            turn = (turn + 1) % lanes_per_copy;
            add_sample<T, R, Loss>(share, p, chains.dim, copy.lane, row, r == 0);
        }
        const bool good =
            update_share(share, inverse_batch, p.l2, step_size, chains.divergence_limit);
        if (any_in_group(!good, group) && !frozen) {
            frozen = true;
            if (copy.live && copy.lane == 0) {
                chains.flags[copy.cell] = 1;
                chains.diverged_at[copy.cell] = step;
            }
        }
        commit_share(share, frozen, chains.accumulate);
        after(share);
    }
}

// What a step costs one lane.
template <class T>
double rows_cost(const SgdChains<T>& chains, const SgdRows<T>& p) {
    const double per_lane = static_cast<double>(ceil_div(chains.dim, lanes_per_copy));
    const double operation = sgd_operation_cost<T>;
    return static_cast<double>(p.batch_size) * (60 + 30 * operation + per_lane * 5 * operation) +
           per_lane * (8 * operation + sgd_sum_cost);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
