// CUDA drivers of the losses over the rows of a data matrix.
//
// Four lanes work on one copy of one chain: lane s holds the coordinates k with k mod 4 = s, which
// are the terms of strand s of Dot, so that a margin costs two shuffles. State and sums stay in
// registers up to dim 128. The four lanes also take turns at the row sampling: each draws one of
// the next four rows. Copies of a chain sit side by side in a warp and read the same rows.
#include "../core/cuda_device.cuh"
#include "cuda.hpp"
#include "cuda_share.cuh"
#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int threads_per_block = 128;
constexpr int lanes_per_copy = 4;
constexpr int copies_per_warp = warp_lanes / lanes_per_copy;

// The samples of a chain that one lane draws: every fourth.
template <class T>
struct LaneSampler {
    const SgdRows<T>& p;
    PhiloxKey key;
    std::uint64_t chain;
    PackRows<T> rows;
    std::int64_t step, sample;     // with replacement: sample `sample` of the batch of `step`
    std::int64_t epoch, position;  // else: row `position` of the order of `epoch`
    std::int64_t permuted_epoch;
    Permutation permutation;

    HL_DEVICE_MEMBER LaneSampler(const SgdRows<T>& parameters, std::uint64_t seed,
                                 std::uint64_t chain_index, std::int64_t first_step, int lane)
        : p(parameters),
          key(philox_key(seed)),
          chain(chain_index),
          step(first_step),
          sample(lane),
          epoch(0),
          position(0),
          permuted_epoch(-1) {
        if (p.sampling == Sampling::iid) {
            rows = PackRows<T>::prepare(chain, first_step,
                                        static_cast<std::uint32_t>(Stream::row_sampling), key);
            carry(sample, p.batch_size, step);
        } else {
            epoch = first_step * p.batch_size / p.num_rows;
            position = first_step * p.batch_size - epoch * p.num_rows + lane;
            carry(position, p.num_rows, epoch);
        }
    }

    HL_DEVICE_MEMBER std::uint32_t next() {
        std::int64_t row;
        if (p.sampling == Sampling::iid) {
            const std::uint32_t block = static_cast<std::uint32_t>(sample >> 2);
            const PhiloxBlock<WordsOf<T>> words = draw_words(rows, step, block, key);
            const int word = static_cast<int>(sample & 3);
            const WordsOf<T> low = word & 1 ? words.word[1] : words.word[0];
            const WordsOf<T> high = word & 1 ? words.word[3] : words.word[2];
            row = iid_row(static_cast<std::uint32_t>(word & 2 ? high : low), p.num_rows, chain,
                          step, sample, key);
            sample += lanes_per_copy;
            carry(sample, p.batch_size, step);
        } else {
            row = position;
            if (p.sampling == Sampling::reshuffle) {
                if (permuted_epoch != epoch) {
                    permutation = epoch_permutation(chain, epoch, p.num_rows, key);
                    permuted_epoch = epoch;
                }
                row = permute(permutation, position, p.num_rows);
            }
            position += lanes_per_copy;
            carry(position, p.num_rows, epoch);
        }
        return static_cast<std::uint32_t>(row);
    }

  private:
    // At most four turns: cheaper than a division of 64-bit integers.
    static HL_DEVICE_MEMBER void carry(std::int64_t& digit, std::int64_t base, std::int64_t& next) {
        while (digit >= base) {
            digit -= base;
            ++next;
        }
    }
};

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
    const T residual = Loss::residual(add_strands(strand), read_only(p.targets + row));
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

template <class T, int R, class Loss>
__global__ void __launch_bounds__(threads_per_block)
    advance_rows(SgdChains<T> chains, SgdRows<T> p, T* workspace) {
    const int lane = static_cast<int>(threadIdx.x) % lanes_per_copy;
    const int slot = static_cast<int>(threadIdx.x) % warp_lanes / lanes_per_copy;
    const unsigned group = 0xfu << (slot * lanes_per_copy);
    const std::int64_t cells = chains.num_chains * chains.num_step_sizes;
    const std::int64_t end = chains.first_step + chains.num_steps;
    const T one = 1;
    const T inverse_batch = one / static_cast<T>(p.batch_size);
    T* const own_workspace = workspace + grid_thread() / lanes_per_copy * chains.dim;

    const std::int64_t stride = grid_threads() / lanes_per_copy;
    std::int64_t first = grid_thread() / warp_lanes * copies_per_warp;
    for (; first < cells; first += stride) {
        const bool live = first + slot < cells;
        const std::int64_t cell = live ? first + slot : first;
        const std::int64_t chain = cell / chains.num_step_sizes;
        const T step_size = chains.step_sizes[cell - chain * chains.num_step_sizes];
        Share<T, R> share(chains, cell, lane, lanes_per_copy, live, own_workspace);
        bool frozen = chains.flags[cell] != 0;
        LaneSampler<T> sampler(p, chains.seed,
                               static_cast<std::uint64_t>(chains.chain_offset + chain),
                               chains.first_step, lane);
        std::uint32_t ahead = 0;
        int turn = 0;
        for (std::int64_t step = chains.first_step; step < end; ++step) {
            for (std::int64_t r = 0; r < p.batch_size; ++r) {
                if (turn == 0) ahead = sampler.next();
                const std::uint32_t row = __shfl_sync(full_warp, ahead, turn, lanes_per_copy);
                turn = (turn + 1) % lanes_per_copy;
                add_sample<T, R, Loss>(share, p, chains.dim, lane, row, r == 0);
            }
            const bool good =
                update_share(share, inverse_batch, p.l2, step_size, chains.divergence_limit);
            if (any_in_group(!good, group) && !frozen) {
                frozen = true;
                if (live && lane == 0) {
                    chains.flags[cell] = 1;
                    chains.diverged_at[cell] = step;
                }
            }
            commit_share(share, frozen, chains.accumulate);
        }
        share.store(chains, cell, lane, lanes_per_copy);
    }
}

constexpr std::int64_t most_in_registers = 32 * lanes_per_copy;

template <class T, int R, class Loss>
Status run_registers(const SgdChains<T>& chains, const SgdRows<T>& p, const CudaCall& call,
                     const char* name) {
    const std::int64_t cells = chains.num_chains * chains.num_step_sizes;
    return launch(name, advance_rows<T, R, Loss>,
                  shape_for(cells * lanes_per_copy, threads_per_block), call, chains, p, nullptr);
}

// What one block needs when the state stays in memory.
template <class T>
std::int64_t block_bytes(const SgdChains<T>& chains) {
    return threads_per_block / lanes_per_copy * chains.dim * static_cast<std::int64_t>(sizeof(T));
}

template <class T, class Loss>
Status run_memory(const SgdChains<T>& chains, const SgdRows<T>& p, const CudaCall& call,
                  const char* name) {
    const std::int64_t cells = chains.num_chains * chains.num_step_sizes;
    LaunchShape shape = shape_for(cells * lanes_per_copy, threads_per_block);
    const std::int64_t room = call.workspace_bytes / block_bytes(chains);
    if (room == 0) return Status::internal(name);
    shape.blocks = shape.blocks < room ? shape.blocks : room;
    return launch(name, advance_rows<T, 0, Loss>, shape, call, chains, p,
                  static_cast<T*>(call.workspace));
}

template <class T, class Loss>
Status run_rows(const SgdChains<T>& chains, const SgdRows<T>& p, const CudaCall& call,
                std::int64_t* steps_done, const char* name) {
    const double per_lane = static_cast<double>(ceil_div(chains.dim, lanes_per_copy));
    const double operation = sgd_operation_cost<T>;
    const double cost =
        static_cast<double>(p.batch_size) * (60 + 30 * operation + per_lane * 5 * operation) +
        per_lane * (8 * operation + sgd_sum_cost);
    const std::int64_t cells = chains.num_chains * chains.num_step_sizes;
    SgdChains<T> part = chains;
    part.num_steps =
        sgd_launch_steps(chains.first_step, chains.num_steps, cells * lanes_per_copy, cost);
    *steps_done = part.num_steps;
    if (chains.dim <= 8 * lanes_per_copy) return run_registers<T, 8, Loss>(part, p, call, name);
    if (chains.dim <= 16 * lanes_per_copy) return run_registers<T, 16, Loss>(part, p, call, name);
    if (chains.dim <= most_in_registers) return run_registers<T, 32, Loss>(part, p, call, name);
    return run_memory<T, Loss>(part, p, call, name);
}

template <class T>
Status run_least_squares(const SgdChains<T>& chains, const SgdRows<T>& p, const CudaCall& call,
                         std::int64_t* steps_done) {
    return run_rows<T, LeastSquaresLoss>(chains, p, call, steps_done, "sgd_least_squares");
}

template <class T>
Status run_logistic(const SgdChains<T>& chains, const SgdRows<T>& p, const CudaCall& call,
                    std::int64_t* steps_done) {
    return run_rows<T, LogisticLoss>(chains, p, call, steps_done, "sgd_logistic");
}

template <class T>
std::int64_t rows_workspace(const SgdChains<T>& chains) {
    if (chains.dim <= most_in_registers) return 0;
    const std::int64_t cells = chains.num_chains * chains.num_step_sizes;
    return sgd_workspace(ceil_div(cells * lanes_per_copy, threads_per_block), block_bytes(chains));
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

HL_SGD_CUDA_DEFINE(least_squares, SgdRows, hl::run_least_squares, hl::rows_workspace)
HL_SGD_CUDA_DEFINE(logistic, SgdRows, hl::run_logistic, hl::rows_workspace)
