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
#include "../core/cuda_device.cuh"
#include "cuda.hpp"
#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int threads_per_block = 128;
constexpr std::int64_t never = 0x7f7f7f7f7f7f7f7f;  // what a fill with bytes 0x7f writes

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
            step_size[j] = chains.step_sizes[first_copy + j];
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

template <class T, int J, class Gradient>
HL_DEVICE void run_in_warp(const SgdChains<T>& chains, Quad<T, J, Gradient>& quad,
                           unsigned lanes_of_chain) {
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
    }
}

// Chains of at most 32 blocks: as many in a warp as fit.
template <class T, int J, class Gradient>
__global__ void __launch_bounds__(threads_per_block)
    advance_in_warp(SgdChains<T> chains, typename Gradient::Parameters p, std::int64_t first_copy) {
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
        Quad<T, J, Gradient> quad(chains, p, live ? first + slot : first, lane % blocks, first_copy,
                                  live);
        run_in_warp(chains, quad, lanes);
        quad.store(chains);
    }
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
    const std::int64_t chains_per_warp = warp_lanes / ceil_div(chains.dim, 4);
    const std::int64_t warps = ceil_div(chains.num_chains, chains_per_warp);
    return launch(name, advance_in_warp<T, J, Gradient>,
                  shape_for(warps * warp_lanes, threads_per_block), call, chains, p, first_copy);
}

// Copies that one thread holds.
constexpr int most_copies = 4;
constexpr int most_draft_copies = 2;

template <class T>
bool fits_in_warp(const SgdChains<T>& chains) {
    return chains.dim <= 4 * warp_lanes;
}

template <class T>
std::int64_t steps_of_launch(const SgdChains<T>& chains) {
    const int copies = sgd_next_group(chains.num_step_sizes, most_copies);
    const double cost =
        240 * sgd_operation_cost<T> + 4 * copies * (8 * sgd_operation_cost<T> + sgd_sum_cost);
    return sgd_launch_steps(chains.first_step, chains.num_steps,
                            chains.num_chains * ceil_div(chains.dim, 4), cost);
}

template <class T, template <class> class Gradient>
Status run_separable(const SgdChains<T>& chains, const typename Gradient<T>::Parameters& p,
                     const CudaCall& call, std::int64_t* steps_done, const char* name) {
    SgdChains<T> part = chains;
    part.num_steps = steps_of_launch(chains);
    *steps_done = part.num_steps;
    if (fits_in_warp(chains)) {
        return sgd_run_groups<most_copies>(
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
