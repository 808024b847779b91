// The grid code that every objective shares: a thread for each chain, whose arrays lie in the
// workspace, those of neighbouring chains side by side.
//
// Some objectives let several warps work on the same chains. Each of these warps makes the same
// steps on its own copy, so that nobody waits for a leader; only the first one writes back.
#pragma once

#include "../core/cuda_device.cuh"
#include "cuda.hpp"
#include "step_chain.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int simplex_block_threads = 64;

// Element s of the thread that owns `base`.
template <class T>
struct Strided {
    T* base;
    std::int64_t stride;

    HL_MEMBER T& operator[](std::int64_t s) const { return base[s * stride]; }
    HL_MEMBER Strided operator+(std::int64_t s) const { return {base + s * stride, stride}; }
};

// Sums of one chain; a copy that does not write back has none.
struct StridedSums {
    double* base;
    std::int64_t stride;

    HL_MEMBER void add(std::int64_t s, double x) {
        if (base != nullptr) base[s * stride] += x;
    }
    HL_MEMBER void add_product(std::int64_t s, double a, double b) { add(s, a * b); }
    HL_MEMBER double get(std::int64_t s, int) const { return base[s * stride]; }
    HL_MEMBER void set(std::int64_t s, int, double sum) {
        if (base != nullptr) base[s * stride] = sum;
    }
};

// Where the arrays of the grid's threads are.
template <class T>
struct Space {
    double* doubles;
    T* reals;
    std::int64_t threads;                 // that there is room for
    std::int64_t own_doubles, own_reals;  // of each thread for the objective
    int warps;                            // copies of each chain
};

// What an objective is told about the thread that asks.
template <class T>
struct Spot {
    const SimplexChains<T>& chains;
    std::int64_t chain;
    int member, warp, warps;  // among the chains of the block; among the copies
    Strided<T> reals;
    Strided<double> doubles;
};

template <class T>
std::int64_t chain_reals(std::int64_t dim) {
    using Any = Chain<T, Strided<T>, StridedSums, int>;
    return Any::num_arrays * dim + Any::noise_length(dim);
}

// Problem: Evaluation; evaluation(spot).
template <class T, class Problem>
__global__ void advance_chains(SimplexChains<T> chains, Problem problem, Space<T> space,
                               bool finishing) {
    using Evaluation = typename Problem::Evaluation;
    const int per_block = static_cast<int>(blockDim.x) / space.warps;
    const int member = static_cast<int>(threadIdx.x) % per_block;
    const int warp = static_cast<int>(threadIdx.x) / per_block;
    const std::int64_t thread = grid_thread(), d = chains.dim;
    const Strided<T> reals{space.reals + thread, space.threads};
    const Strided<double> doubles{space.doubles + thread, space.threads};
    const std::int64_t used = 9 * d + (d + 3) / 4 * 4;
    for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * per_block;
         first < chains.num_chains; first += static_cast<std::int64_t>(gridDim.x) * per_block) {
        const bool exists = first + member < chains.num_chains;
        const bool owner = exists && warp == 0;
        const std::int64_t index = exists ? first + member : chains.num_chains - 1;
        const Spot<T> spot{chains, index, member, warp, space.warps, reals + used, doubles + 2 * d};
        Chain<T, Strided<T>, StridedSums, Evaluation> chain(chains, Evaluation(problem, spot),
                                                            index);
        chain.live = owner ? 1 : 0;
        chain.share_out(reals);
        chain.sums = {owner ? doubles.base : nullptr, space.threads};
        chain.squares = {owner ? doubles.base + d * space.threads : nullptr, space.threads};
        chain.products = {
            owner && chains.products != nullptr ? chains.products + index * d * d : nullptr, 1};
        chain.load_state();
        chain.begin_block(chains.first_step);
        chain.begin();
        const std::int64_t end = chains.first_step + chains.num_steps;
        for (std::int64_t step = chains.first_step; step < end; ++step)
            chain.advance(step);
        if (finishing) chain.finish();
        chain.store_state();
        if (space.warps > 1) __syncthreads();
    }
}

// How the chains are laid out on the grid.
template <class T>
struct Layout {
    std::int64_t own_doubles, own_reals;
    int warps;
    std::int64_t shared_bytes;

    int threads_per_block() const { return warps > 1 ? warps * warp_lanes : simplex_block_threads; }
    std::int64_t thread_bytes(std::int64_t dim) const {
        return (2 * dim + own_doubles) * 8 +
               (chain_reals<T>(dim) + own_reals) * static_cast<std::int64_t>(sizeof(T));
    }
    std::int64_t blocks(const SimplexChains<T>& chains) const {
        const std::int64_t wanted = ceil_div(chains.num_chains, threads_per_block() / warps);
        const std::int64_t room =
            simplex_workspace_limit / (thread_bytes(chains.dim) * threads_per_block());
        return wanted < room ? wanted : (room > 1 ? room : 1);
    }
    std::int64_t workspace(const SimplexChains<T>& chains) const {
        return blocks(chains) * threads_per_block() * thread_bytes(chains.dim);
    }
};

// Queues some of the steps; `cost` counts the operations of one evaluation.
template <class T, class Problem>
Status launch_chains(const char* name, const SimplexChains<T>& chains, const Problem& problem,
                     const Layout<T>& layout, double cost, const CudaCall& call,
                     std::int64_t* steps_done) {
    if (call.workspace_bytes < layout.workspace(chains)) return Status::internal(name);
    const std::int64_t blocks = layout.blocks(chains);
    const int threads = layout.threads_per_block();
    const std::int64_t d = chains.dim;
    Space<T> space{static_cast<double*>(call.workspace),
                   nullptr,
                   blocks * threads,
                   layout.own_doubles,
                   layout.own_reals,
                   layout.warps};
    space.reals =
        reinterpret_cast<T*>(space.doubles + (2 * d + layout.own_doubles) * space.threads);
    const std::int64_t turns = ceil_div(chains.num_chains, blocks * (threads / layout.warps));
    const double step_cost =
        (cost + 200.0 * static_cast<double>(d) + 500.0) * (sizeof(T) == 8 ? 16.0 : 1.0);
    SimplexChains<T> part = chains;
    part.num_steps = simplex_launch_steps(chains.first_step, chains.num_steps, turns, step_cost);
    *steps_done = part.num_steps;
    const LaunchShape shape{blocks, threads, layout.shared_bytes};
    return launch(name, advance_chains<T, Problem>, shape, call, part, problem, space,
                  part.num_steps == chains.num_steps);
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
