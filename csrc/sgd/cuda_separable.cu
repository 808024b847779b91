// CUDA drivers of the gradients that act on each coordinate alone: the diagonal quadratic and the
// cosine.
//
// A thread owns four coordinates of up to four copies of one chain: one Philox block serves them
// all, and state and sums stay in registers for the whole launch. More copies are run in groups
// that draw the same noise again.
//
// A copy freezes as a whole. A chain of up to 128 coordinates lies within one warp, which votes. A
// longer one runs on into the workspace while its threads note the first step that left the range;
// a second kernel takes over the result, or runs the few chains that were hit again up to that
// step.
#include "cuda_quad.cuh"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int threads_per_block = 128;
constexpr std::int64_t never = 0x7f7f7f7f7f7f7f7f;  // what a fill with bytes 0x7f writes

template <class T, int J, class Gradient>
__global__ void __launch_bounds__(threads_per_block)
    advance_in_warp(SgdChains<T> chains, typename Gradient::Parameters p, std::int64_t first_copy) {
    each_in_warp(chains, [&](std::int64_t chain, std::int64_t block, bool live, unsigned lanes) {
        Quad<T, J, Gradient> quad(chains, p, chain, block, first_copy, live);
        run_in_warp(chains, quad, lanes, [](const Quad<T, J, Gradient>&) {});
        quad.store(chains);
    });
}

// The workspace of the chains that one launch of the two kernels below advances.
template <class T>
struct Draft {
    std::int64_t first_chain, num_chains, blocks;
    double* sums;              // (J, 4, threads)
    std::int64_t* first_left;  // (chains, J) first step that left the range, or never
    T* theta;                  // (J, 4, threads)

    HL_MEMBER std::int64_t threads() const { return num_chains * blocks; }
};

template <class T, int J, class Gradient>
__global__ void __launch_bounds__(threads_per_block)
    advance_draft(SgdChains<T> chains, typename Gradient::Parameters p, std::int64_t first_copy,
                  Draft<T> draft) {
    const std::int64_t end = chains.first_step + chains.num_steps;
    for (std::int64_t t = grid_thread(); t < draft.threads(); t += grid_threads()) {
        const std::int64_t local_chain = t / draft.blocks;
        Quad<T, J, Gradient> quad(chains, p, draft.first_chain + local_chain,
                                  t - local_chain * draft.blocks, first_copy, true);
        for (int j = 0; j < J; ++j)
            quad.frozen |= chains.flags[quad.cell + j] != 0 ? 1u << j : 0u;
        for (std::int64_t step = chains.first_step; step < end; ++step) {
            const unsigned left = quad.propose(step, chains.divergence_limit);
            if (left != 0) {
                for (int j = 0; j < J; ++j) {
                    if ((left >> j & 1u) == 0) continue;
                    atomicMin(reinterpret_cast<long long*>(draft.first_left + local_chain * J + j),
                              static_cast<long long>(step));
                }
                quad.frozen |= left;
            }
            quad.commit(chains.accumulate);
        }
        for (int i = 0; i < 4 * J; ++i) {
            draft.theta[i * draft.threads() + t] = quad.theta[i / 4][i % 4];
            draft.sums[i * draft.threads() + t] = quad.sums[i / 4][i % 4];
        }
    }
}

// Takes the draft over, or repeats the steps of a chain now that it is known where copies stop.
template <class T, int J, class Gradient>
__global__ void __launch_bounds__(threads_per_block)
    settle_draft(SgdChains<T> chains, typename Gradient::Parameters p, std::int64_t first_copy,
                 Draft<T> draft) {
    const std::int64_t end = chains.first_step + chains.num_steps;
    for (std::int64_t t = grid_thread(); t < draft.threads(); t += grid_threads()) {
        const std::int64_t local_chain = t / draft.blocks;
        Quad<T, J, Gradient> quad(chains, p, draft.first_chain + local_chain,
                                  t - local_chain * draft.blocks, first_copy, true);
        std::int64_t stop[J];
        bool hit = false;
        for (int j = 0; j < J; ++j) {
            stop[j] = draft.first_left[local_chain * J + j];
            hit = hit || stop[j] != never;
        }
        if (hit) {
            for (int j = 0; j < J; ++j) {
                // Flags of copies that stop now are being written; those of the others rest.
                if (stop[j] == never && chains.flags[quad.cell + j] != 0) quad.frozen |= 1u << j;
            }
            for (std::int64_t step = chains.first_step; step < end; ++step) {
                quad.propose(step, chains.divergence_limit);
                for (int j = 0; j < J; ++j)
                    quad.frozen |= step >= stop[j] ? 1u << j : 0u;
                quad.commit(chains.accumulate);
            }
            for (int j = 0; j < J; ++j) {
                if (quad.block != 0 || stop[j] == never) continue;
                chains.flags[quad.cell + j] = 1;
                chains.diverged_at[quad.cell + j] = stop[j];
            }
        } else {
            for (int i = 0; i < 4 * J; ++i) {
                quad.theta[i / 4][i % 4] = draft.theta[i * draft.threads() + t];
                quad.sums[i / 4][i % 4] = draft.sums[i * draft.threads() + t];
            }
        }
        quad.store(chains);
    }
}

template <class T>
std::int64_t draft_bytes_per_chain(std::int64_t dim, int copies) {
    const std::int64_t coordinates = 4 * ceil_div(dim, 4);
    const std::int64_t bytes = static_cast<std::int64_t>(sizeof(T) + sizeof(double));
    return copies * (coordinates * bytes + static_cast<std::int64_t>(sizeof(std::int64_t)));
}

template <class T, int J, class Gradient>
Status run_drafts(const SgdChains<T>& chains, const typename Gradient::Parameters& p,
                  const CudaCall& call, std::int64_t first_copy, const char* name) {
    const std::int64_t room = call.workspace_bytes / draft_bytes_per_chain<T>(chains.dim, J);
    if (room == 0) return Status::internal(name);
    Draft<T> draft{0, 0, ceil_div(chains.dim, 4), nullptr, nullptr, nullptr};
    for (; draft.first_chain < chains.num_chains; draft.first_chain += room) {
        const std::int64_t left = chains.num_chains - draft.first_chain;
        draft.num_chains = room < left ? room : left;
        draft.sums = static_cast<double*>(call.workspace);
        draft.first_left = reinterpret_cast<std::int64_t*>(draft.sums + 4 * J * draft.threads());
        draft.theta = reinterpret_cast<T*>(draft.first_left + J * draft.num_chains);
        const std::size_t bytes = static_cast<std::size_t>(J * draft.num_chains) * 8;
        Status status = cuda_status(name, cudaMemsetAsync(draft.first_left, 0x7f, bytes,
                                                          static_cast<cudaStream_t>(call.stream)));
        const LaunchShape shape = shape_for(draft.threads(), threads_per_block);
        if (status.ok()) {
            status = launch(name, advance_draft<T, J, Gradient>, shape, call, chains, p, first_copy,
                            draft);
        }
        if (status.ok()) {
            status = launch(name, settle_draft<T, J, Gradient>, shape, call, chains, p, first_copy,
                            draft);
        }
        if (!status.ok()) return status;
    }
    return Status::success();
}

template <class T, int J, class Gradient>
Status run_warps(const SgdChains<T>& chains, const typename Gradient::Parameters& p,
                 const CudaCall& call, std::int64_t first_copy, const char* name) {
    return launch(name, advance_in_warp<T, J, Gradient>,
                  shape_for(threads_in_warps(chains), threads_per_block), call, chains, p,
                  first_copy);
}

constexpr int most_draft_copies = 2;

template <class T>
std::int64_t steps_of_launch(const SgdChains<T>& chains) {
    const int copies = sgd_next_group(chains.num_step_sizes, most_quad_copies);
    return sgd_launch_steps(chains.first_step, chains.num_steps,
                            chains.num_chains * ceil_div(chains.dim, 4), quad_cost<T>(copies));
}

template <class T, template <class> class Gradient>
Status run_separable(const SgdChains<T>& chains, const typename Gradient<T>::Parameters& p,
                     const CudaCall& call, std::int64_t* steps_done, const char* name) {
    SgdChains<T> part = chains;
    part.num_steps = steps_of_launch(chains);
    *steps_done = part.num_steps;
    if (fits_in_warp(chains)) {
        return sgd_run_groups<most_quad_copies>(
            chains.num_step_sizes, [&](auto group, std::int64_t first) {
                return run_warps<T, decltype(group)::size, Gradient<T>>(part, p, call, first, name);
            });
    }
    return sgd_run_groups<most_draft_copies>(
        chains.num_step_sizes, [&](auto group, std::int64_t first) {
            return run_drafts<T, decltype(group)::size, Gradient<T>>(part, p, call, first, name);
        });
}

template <class T>
Status run_quadratic(const SgdChains<T>& chains, const SgdQuadratic<T>& p, const CudaCall& call,
                     std::int64_t* steps_done) {
    return run_separable<T, QuadraticQuad>(chains, p, call, steps_done, "sgd_quadratic");
}

template <class T>
Status run_cosine(const SgdChains<T>& chains, const SgdCosine<T>& p, const CudaCall& call,
                  std::int64_t* steps_done) {
    return run_separable<T, CosineQuad>(chains, p, call, steps_done, "sgd_cosine");
}

template <class T>
std::int64_t separable_workspace(const SgdChains<T>& chains) {
    if (fits_in_warp(chains)) return 0;
    const int copies = sgd_next_group(chains.num_step_sizes, most_draft_copies);
    return sgd_workspace(chains.num_chains, draft_bytes_per_chain<T>(chains.dim, copies));
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

HL_SGD_CUDA_DEFINE(quadratic, SgdQuadratic, hl::run_quadratic, hl::separable_workspace)
HL_SGD_CUDA_DEFINE(cosine, SgdCosine, hl::run_cosine, hl::separable_workspace)
