// Kernel, launch and entry points of the drivers that take every rule and statistic: one thread for
// each chain (cuda_chain.cuh). Those of the other files are faster and take what they say.
#pragma once

#include "../core/cuda_device.cuh"
#include "cuda.hpp"
#include "cuda_chain.cuh"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// Few threads a block, so that few chains still spread over the device.
constexpr int general_threads_per_block = 64;

// Problem(chains, parameters, chain, scratch); num_scratch(chains) reals of it.
template <class T, class Problem>
__global__ void __launch_bounds__(general_threads_per_block)
    advance_general(SgdChains<T> chains, typename Problem::Parameters p, double* workspace) {
    const std::int64_t num_scratch = Problem::num_scratch(chains);
    run_chains(chains, workspace, num_scratch, [&](std::int64_t chain, Lane<T> scratch) {
        return Problem(chains, p, chain, scratch);
    });
}

template <class T, class Problem>
std::int64_t general_block_bytes(const SgdChains<T>& chains) {
    return count_lanes(chains, Problem::num_scratch(chains)).bytes() * general_threads_per_block;
}

template <class T, class Problem>
std::int64_t general_workspace(const SgdChains<T>& chains) {
    return sgd_workspace(ceil_div(chains.num_chains, general_threads_per_block),
                         general_block_bytes<T, Problem>(chains));
}

// `cost`: operations of the gradients of all copies.
template <class T, class Problem>
Status run_general(const SgdChains<T>& chains, const typename Problem::Parameters& p,
                   const CudaCall& call, std::int64_t* steps_done, const char* name, double cost) {
    const std::int64_t room = call.workspace_bytes / general_block_bytes<T, Problem>(chains);
    if (room == 0) return Status::internal(name);
    LaunchShape shape = shape_for(chains.num_chains, general_threads_per_block);
    shape.blocks = shape.blocks < room ? shape.blocks : room;
    const double size = static_cast<double>(chains.num_step_sizes * chains.dim);
    SgdChains<T> part = chains;
    part.num_steps =
        sgd_launch_steps(chains.first_step, chains.num_steps, chains.num_chains,
                         sgd_operation_cost<T> * (cost + 20 * size) + sgd_statistics_cost(chains));
    *steps_done = part.num_steps;
    return launch(name, advance_general<T, Problem>, shape, call, part, p,
                  static_cast<double*>(call.workspace));
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
