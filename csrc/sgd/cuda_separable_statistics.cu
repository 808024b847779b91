// CUDA drivers of the diagonal quadratic and the cosine with the statistics that are on by default:
// sums for random scaling and the path of the sums for batch means.
//
// As in cuda_separable.cu a thread owns four coordinates of a chain of up to 128; here it has all
// copies, up to four, because the extrapolated path combines them. What the statistics add to
// stays in its registers too.
#include "cuda_quad.cuh"
#include "step_statistics.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int threads_per_block = 128;

// All loops have bounds that the compiler knows, or the arrays would lie in memory.
template <class T, int J, class Gradient>
struct QuadStatistics {
    static constexpr int paths = J > 1 ? J + 1 : 1;

    const SgdChains<T>& chains;
    const SgdStatistics& asked;
    std::int64_t chain, until_slot, slot;
    double count, weight[J], shift[J][4], products[J][4], squares[paths][4];

    HL_DEVICE_MEMBER QuadStatistics(const SgdChains<T>& all, std::int64_t index,
                                    const Quad<T, J, Gradient>& quad)
        : chains(all),
          asked(all.statistics),
          chain(index),
          until_slot(asked.stride - asked.count % asked.stride),
          slot(asked.count / asked.stride),
          count(static_cast<double>(asked.count)) {
        for (int j = 0; j < J; ++j) {
            weight[j] = asked.weights[chain * asked.weight_stride + j];
            for (int c = 0; c < 4; ++c) {
                const bool mine = scaling() && c < quad.count;
                shift[j][c] = mine ? asked.shift[quad.at(chains, j, c)] : 0.0;
                products[j][c] = mine ? asked.products[quad.at(chains, j, c)] : 0.0;
            }
        }
        each_square(quad, [&](double& mine, double& theirs) { mine = theirs; });
    }

    HL_DEVICE_MEMBER void store(const Quad<T, J, Gradient>& quad) {
        each_square(quad, [&](double& mine, double& theirs) { theirs = mine; });
        for (int j = 0; j < J; ++j) {
            for (int c = 0; c < 4; ++c) {
                if (scaling() && c < quad.count)
                    asked.products[quad.at(chains, j, c)] = products[j][c];
            }
        }
    }

    // Takes the sums in, after a step.
    HL_DEVICE_MEMBER void operator()(const Quad<T, J, Gradient>& quad) {
        count += 1.0;
        if (scaling()) {
            for (int c = 0; c < 4; ++c)
                add_coordinate(quad, c);
        }
        if (asked.path == nullptr || --until_slot > 0) return;
        until_slot = asked.stride;
        for (int j = 0; j < J; ++j) {
            const std::int64_t cell = (chain * asked.slots + slot) * J + j;
            for (int c = 0; c < 4; ++c) {
                if (c < quad.count)
                    asked.path[cell * chains.dim + quad.first + c] = quad.sums[j][c];
            }
        }
        ++slot;
    }

  private:
    HL_DEVICE_MEMBER bool scaling() const { return asked.squares != nullptr; }

    HL_DEVICE_MEMBER void add_coordinate(const Quad<T, J, Gradient>& quad, int c) {
        double centred[J];
        for (int j = 0; j < J; ++j) {
            centred[j] = centred_sum(quad.sums[j][c], count, shift[j][c]);
            squares[j][c] = add_square(squares[j][c], centred[j]);
            products[j][c] = add_product(products[j][c], count, centred[j]);
        }
        if constexpr (J > 1)
            squares[J][c] = add_square(squares[J][c], extrapolate(weight, centred, 1, J));
    }

    template <class Visit>
    HL_DEVICE_MEMBER void each_square(const Quad<T, J, Gradient>& quad, Visit visit) {
        for (int p = 0; p < paths; ++p) {
            const std::int64_t first = (chain * paths + p) * chains.dim + quad.first;
            for (int c = 0; c < 4; ++c) {
                if (scaling() && c < quad.count) {
                    visit(squares[p][c], asked.squares[first + c]);
                } else {
                    squares[p][c] = 0.0;
                }
            }
        }
    }
};

template <class T, int J, class Gradient>
__global__ void __launch_bounds__(threads_per_block)
    advance_with_statistics(SgdChains<T> chains, typename Gradient::Parameters p) {
    each_in_warp(chains, [&](std::int64_t chain, std::int64_t block, bool live, unsigned lanes) {
        Quad<T, J, Gradient> quad(chains, p, chain, block, 0, live);
        QuadStatistics<T, J, Gradient> statistics(chains, chain, quad);
        run_in_warp(chains, quad, lanes,
                    [&](const Quad<T, J, Gradient>& stepped) { statistics(stepped); });
        quad.store(chains);
        statistics.store(quad);
    });
}

template <class T, template <class> class Gradient>
Status run_statistics(const SgdChains<T>& chains, const typename Gradient<T>::Parameters& p,
                      const CudaCall& call, std::int64_t* steps_done, const char* name) {
    if (!fits_in_warp(chains) || chains.num_step_sizes > most_quad_copies)
        return Status::internal(name);
    const int copies = static_cast<int>(chains.num_step_sizes);
    const double cost = quad_cost<T>(copies) + 4 * (copies + 1) * 4 * sgd_sum_cost;
    SgdChains<T> part = chains;
    part.num_steps = sgd_launch_steps(chains.first_step, chains.num_steps,
                                      chains.num_chains * ceil_div(chains.dim, 4), cost);
    *steps_done = part.num_steps;
    return sgd_run_groups<most_quad_copies>(copies, [&](auto group, std::int64_t) {
        return launch(name, advance_with_statistics<T, decltype(group)::size, Gradient<T>>,
                      shape_for(threads_in_warps(chains), threads_per_block), call, part, p);
    });
}

template <class T>
Status run_quadratic(const SgdChains<T>& chains, const SgdQuadratic<T>& p, const CudaCall& call,
                     std::int64_t* steps_done) {
    return run_statistics<T, QuadraticQuad>(chains, p, call, steps_done, "sgd_quadratic");
}

template <class T>
Status run_cosine(const SgdChains<T>& chains, const SgdCosine<T>& p, const CudaCall& call,
                  std::int64_t* steps_done) {
    return run_statistics<T, CosineQuad>(chains, p, call, steps_done, "sgd_cosine");
}

template <class T>
std::int64_t no_workspace(const SgdChains<T>&) {
    return 0;
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

HL_SGD_CUDA_DEFINE(quadratic_statistics, SgdQuadratic, hl::run_quadratic, hl::no_workspace)
HL_SGD_CUDA_DEFINE(cosine_statistics, SgdCosine, hl::run_cosine, hl::no_workspace)
