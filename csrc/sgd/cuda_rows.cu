// CUDA drivers of the losses over the rows of a data matrix.
//
// Four lanes work on one copy of one chain: lane s holds the coordinates k with k mod 4 = s, which
// are the terms of strand s of Dot, so that a margin costs two shuffles. State and sums stay in
// registers up to dim 128. The four lanes also take turns at the row sampling: each draws one of
// the next four rows. Copies of a chain sit side by side in a warp and read the same rows.
#include "cuda_rows.cuh"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class T, int R, class Loss>
__global__ void __launch_bounds__(rows_threads_per_block)
    advance_rows(SgdChains<T> chains, SgdRows<T> p, T* workspace) {
    const int lane = static_cast<int>(threadIdx.x) % lanes_per_copy;
    const int slot = static_cast<int>(threadIdx.x) % warp_lanes / lanes_per_copy;
    const std::int64_t cells = chains.num_chains * chains.num_step_sizes;
    T* const own_workspace = workspace + grid_thread() / lanes_per_copy * chains.dim;
    const std::int64_t stride = grid_threads() / lanes_per_copy;
    std::int64_t first = grid_thread() / warp_lanes * copies_per_warp;
    for (; first < cells; first += stride) {
        const bool live = first + slot < cells;
        const std::int64_t cell = live ? first + slot : first;
        const CopyOfLanes copy{cell / chains.num_step_sizes, cell, lane, live};
        Share<T, R> share(chains, cell, lane, lanes_per_copy, live, own_workspace);
        run_copy<T, R, Loss>(chains, p, copy, share, [](const Share<T, R>&) {});
        share.store(chains, cell, lane, lanes_per_copy);
    }
}

constexpr std::int64_t most_in_registers = 32 * lanes_per_copy;

template <class T, int R, class Loss>
Status run_registers(const SgdChains<T>& chains, const SgdRows<T>& p, const CudaCall& call,
                     const char* name) {
    const std::int64_t cells = chains.num_chains * chains.num_step_sizes;
    return launch(name, advance_rows<T, R, Loss>,
                  shape_for(cells * lanes_per_copy, rows_threads_per_block), call, chains, p,
                  nullptr);
}

// What one block needs when the state stays in memory.
template <class T>
std::int64_t block_bytes(const SgdChains<T>& chains) {
    return rows_threads_per_block / lanes_per_copy * chains.dim *
           static_cast<std::int64_t>(sizeof(T));
}

template <class T, class Loss>
Status run_memory(const SgdChains<T>& chains, const SgdRows<T>& p, const CudaCall& call,
                  const char* name) {
    const std::int64_t cells = chains.num_chains * chains.num_step_sizes;
    LaunchShape shape = shape_for(cells * lanes_per_copy, rows_threads_per_block);
    const std::int64_t room = call.workspace_bytes / block_bytes(chains);
    if (room == 0) return Status::internal(name);
    shape.blocks = shape.blocks < room ? shape.blocks : room;
    return launch(name, advance_rows<T, 0, Loss>, shape, call, chains, p,
                  static_cast<T*>(call.workspace));
}

template <class T, class Loss>
Status run_rows(const SgdChains<T>& chains, const SgdRows<T>& p, const CudaCall& call,
                std::int64_t* steps_done, const char* name) {
    const std::int64_t cells = chains.num_chains * chains.num_step_sizes;
    SgdChains<T> part = chains;
    part.num_steps = sgd_launch_steps(chains.first_step, chains.num_steps, cells * lanes_per_copy,
                                      rows_cost(chains, p));
    *steps_done = part.num_steps;
    if (chains.dim <= 8 * lanes_per_copy) return run_registers<T, 8, Loss>(part, p, call, name);
    if (chains.dim <= 16 * lanes_per_copy) return run_registers<T, 16, Loss>(part, p, call, name);
    if (chains.dim <= most_in_registers) return run_registers<T, 32, Loss>(part, p, call, name);
    return run_memory<T, Loss>(part, p, call, name);
}

template <class T>
std::int64_t rows_workspace(const SgdChains<T>& chains) {
    if (chains.dim <= most_in_registers) return 0;
    const std::int64_t cells = chains.num_chains * chains.num_step_sizes;
    return sgd_workspace(ceil_div(cells * lanes_per_copy, rows_threads_per_block),
                         block_bytes(chains));
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

HL_SGD_CUDA_DEFINE_LOSS(least_squares, , LeastSquaresLoss)
HL_SGD_CUDA_DEFINE_LOSS(logistic, , LogisticLoss)
HL_SGD_CUDA_DEFINE_LOSS(huber, , HuberLoss)
HL_SGD_CUDA_DEFINE_LOSS(squared_hinge, , SquaredHingeLoss)
HL_SGD_CUDA_DEFINE_LOSS(softplus_hinge, , SoftplusHingeLoss)
HL_SGD_CUDA_DEFINE_LOSS(poisson, , PoissonLoss)
