// CUDA drivers of the losses over the rows of a data matrix with the statistics that are on by
// default: sums for random scaling and the path of the sums for batch means.
//
// As in cuda_rows.cu four lanes work on one copy of a chain; here of up to 32 coordinates, and what
// the statistics add to stays in their registers too. The up to eight copies of a chain lie in one
// warp, because the extrapolated path combines them.
#include "cuda_rows.cuh"
#include "step_statistics.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int most_coordinates = 8;  // of one lane

// All loops have bounds that the compiler knows, or the arrays would lie in memory.
template <class T, int R>
struct ShareStatistics {
    const SgdChains<T>& chains;
    const SgdStatistics& asked;
    const CopyOfLanes& copy;
    int first_lane;  // where the first copy of the chain has the same coordinates
    std::int64_t until_slot, slot;
    double count, weight;
    double shift[R], products[R], squares[R], extrapolated[R];

    HL_DEVICE_MEMBER ShareStatistics(const SgdChains<T>& all, const CopyOfLanes& of)
        : chains(all),
          asked(all.statistics),
          copy(of),
          first_lane(static_cast<int>(threadIdx.x) % warp_lanes -
                     static_cast<int>(number()) * lanes_per_copy),
          until_slot(asked.stride - asked.count % asked.stride),
          slot(asked.count / asked.stride),
          count(static_cast<double>(asked.count)),
          weight(asked.weights[of.chain * asked.weight_stride + number()]) {
        for (int r = 0; r < R; ++r) {
            const bool mine = scaling() && holds(r);
            shift[r] = mine ? asked.shift[of_copy(r)] : 0.0;
            products[r] = mine ? asked.products[of_copy(r)] : 0.0;
            squares[r] = mine ? asked.squares[of_path(number(), r)] : 0.0;
            extrapolated[r] = mine && extrapolates() ? asked.squares[of_path(copies(), r)] : 0.0;
        }
    }

    HL_DEVICE_MEMBER void store() const {
        for (int r = 0; r < R; ++r) {
            if (!scaling() || !holds(r)) continue;
            asked.products[of_copy(r)] = products[r];
            asked.squares[of_path(number(), r)] = squares[r];
            if (extrapolates() && number() == 0)
                asked.squares[of_path(copies(), r)] = extrapolated[r];
        }
    }

    // Takes the sums in, after a step.
    HL_DEVICE_MEMBER void operator()(const Share<T, R>& share) {
        count += 1.0;
        if (scaling()) {
            for (int r = 0; r < R; ++r) {
                if (lanes_per_copy * r < chains.dim) add_coordinate(share, r);
            }
        }
        if (asked.path == nullptr || --until_slot > 0) return;
        until_slot = asked.stride;
        const std::int64_t cell = (copy.chain * asked.slots + slot) * copies() + number();
        for (int r = 0; r < R; ++r) {
            if (holds(r)) asked.path[cell * chains.dim + coordinate(r)] = share.sums_[r];
        }
        ++slot;
    }

  private:
    HL_DEVICE_MEMBER bool scaling() const { return asked.squares != nullptr; }
    HL_DEVICE_MEMBER bool extrapolates() const { return copies() > 1; }
    HL_DEVICE_MEMBER std::int64_t copies() const { return chains.num_step_sizes; }
    HL_DEVICE_MEMBER std::int64_t number() const { return copy.cell - copy.chain * copies(); }

    HL_DEVICE_MEMBER std::int64_t coordinate(int r) const {
        return copy.lane + std::int64_t{lanes_per_copy} * r;
    }
    HL_DEVICE_MEMBER bool holds(int r) const { return copy.live && coordinate(r) < chains.dim; }
    HL_DEVICE_MEMBER std::int64_t of_copy(int r) const {
        return copy.cell * chains.dim + coordinate(r);
    }
    HL_DEVICE_MEMBER std::int64_t of_path(std::int64_t path, int r) const {
        const std::int64_t paths = copies() + (extrapolates() ? 1 : 0);
        return (copy.chain * paths + path) * chains.dim + coordinate(r);
    }

    // All lanes of the warp call it.
    HL_DEVICE_MEMBER void add_coordinate(const Share<T, R>& share, int r) {
        const double centred = centred_sum(share.sums_[r], count, shift[r]);
        squares[r] = add_square(squares[r], centred);
        products[r] = add_product(products[r], count, centred);
        if (!extrapolates()) return;
        const double part = weight * centred;
        double total = __shfl_sync(full_warp, part, first_lane);
        for (int j = 1; j < static_cast<int>(copies()); ++j)
            total = total + __shfl_sync(full_warp, part, first_lane + j * lanes_per_copy);
        extrapolated[r] = add_square(extrapolated[r], total);
    }
};

template <class T, class Loss>
__global__ void __launch_bounds__(rows_threads_per_block)
    advance_with_statistics(SgdChains<T> chains, SgdRows<T> p) {
    constexpr int R = most_coordinates;
    const int lane = static_cast<int>(threadIdx.x) % lanes_per_copy;
    const int slot = static_cast<int>(threadIdx.x) % warp_lanes / lanes_per_copy;
    const int copies = static_cast<int>(chains.num_step_sizes);
    const int chains_per_warp = copies_per_warp / copies;
    const int chain_slot = slot / copies;
    const std::int64_t stride = grid_threads() / warp_lanes * chains_per_warp;
    std::int64_t first = grid_thread() / warp_lanes * chains_per_warp;
    for (; first < chains.num_chains; first += stride) {
        const bool live = chain_slot < chains_per_warp && first + chain_slot < chains.num_chains;
        const std::int64_t chain = live ? first + chain_slot : first;
        const std::int64_t cell = chain * copies + slot - chain_slot * copies;
        const CopyOfLanes copy{chain, cell, lane, live};
        Share<T, R> share(chains, cell, lane, lanes_per_copy, live, nullptr);
        ShareStatistics<T, R> statistics(chains, copy);
        run_copy<T, R, Loss>(chains, p, copy, share,
                             [&](const Share<T, R>& stepped) { statistics(stepped); });
        share.store(chains, cell, lane, lanes_per_copy);
        statistics.store();
    }
}

template <class T, class Loss>
Status run_rows(const SgdChains<T>& chains, const SgdRows<T>& p, const CudaCall& call,
                std::int64_t* steps_done, const char* name) {
    if (chains.dim > lanes_per_copy * most_coordinates || chains.num_step_sizes > copies_per_warp)
        return Status::internal(name);
    const std::int64_t warps = ceil_div(chains.num_chains, copies_per_warp / chains.num_step_sizes);
    const double coordinates = static_cast<double>(ceil_div(chains.dim, lanes_per_copy));
    SgdChains<T> part = chains;
    part.num_steps = sgd_launch_steps(chains.first_step, chains.num_steps, warps * warp_lanes,
                                      rows_cost(chains, p) + coordinates * 8 * sgd_sum_cost);
    *steps_done = part.num_steps;
    return launch(name, advance_with_statistics<T, Loss>,
                  shape_for(warps * warp_lanes, rows_threads_per_block), call, part, p);
}

template <class T>
std::int64_t rows_workspace(const SgdChains<T>&) {
    return 0;
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

HL_SGD_CUDA_DEFINE_LOSS(least_squares, _statistics, LeastSquaresLoss)
HL_SGD_CUDA_DEFINE_LOSS(logistic, _statistics, LogisticLoss)
HL_SGD_CUDA_DEFINE_LOSS(huber, _statistics, HuberLoss)
HL_SGD_CUDA_DEFINE_LOSS(squared_hinge, _statistics, SquaredHingeLoss)
HL_SGD_CUDA_DEFINE_LOSS(softplus_hinge, _statistics, SoftplusHingeLoss)
HL_SGD_CUDA_DEFINE_LOSS(poisson, _statistics, PoissonLoss)
