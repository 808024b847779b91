// Driver of a gradient that the user compiled: one call for each chain, copy and step. The noise is
// still made for a pack of chains at once.
#include "cpu.hpp"
#include "tile.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// Coordinates of chains whose gradients are made before the chains are updated.
constexpr std::int64_t coordinates_at_once = 1024;

// The statistics of one chain, where they lie, after its s-th averaged step.
template <class Real>
struct ChainStatistics {
    const SgdStatistics& s;
    std::int64_t chain, copies, dim, paths;
    double count;
    const double* weights;
    const Real* theta;
    const double *sums, *shift;

    HL_MEMBER ChainStatistics(const SgdChains<Real>& c, std::int64_t which, std::int64_t averaged)
        : s(c.statistics),
          chain(which),
          copies(c.num_step_sizes),
          dim(c.dim),
          paths(copies > 1 ? copies + 1 : 1),
          count(static_cast<double>(averaged)),
          weights(s.weights + which * s.weight_stride),
          theta(c.theta + which * copies * dim),
          sums(c.sums + which * copies * dim),
          shift(s.shift + which * copies * dim) {}

    HL_MEMBER double centred(std::int64_t j, std::int64_t i) const {
        return centred_sum(sums[j * dim + i], count, shift[j * dim + i]);
    }
    HL_MEMBER double relative(std::int64_t p, std::int64_t i) const {
        if (p < copies) return relative_of_copy(p, i);
        double total = weights[0] * relative_of_copy(0, i);
        for (std::int64_t j = 1; j < copies; ++j)
            total = total + weights[j] * relative_of_copy(j, i);
        return total;
    }
    HL_MEMBER double relative_of_copy(std::int64_t j, std::int64_t i) const {
        return static_cast<double>(theta[j * dim + i]) - shift[j * dim + i];
    }

    HL_MEMBER void add_scaling() const {
        double* const squares = s.squares == nullptr ? nullptr : s.squares + chain * paths * dim;
        double* const products =
            s.products == nullptr ? nullptr : s.products + chain * copies * dim;
        for (std::int64_t i = 0; i < dim; ++i) {
            double extrapolated = 0;
            for (std::int64_t j = 0; j < copies; ++j) {
                const double total = centred(j, i);
                const std::int64_t at = j * dim + i;
                if (squares != nullptr) squares[at] = add_square(squares[at], total);
                if (products != nullptr) products[at] = add_product(products[at], count, total);
                if (copies == 1) continue;
                const double part = weights[j] * total;
                extrapolated = j == 0 ? part : extrapolated + part;
            }
            if (copies == 1 || squares == nullptr) continue;
            double& last = squares[copies * dim + i];
            last = add_square(last, extrapolated);
        }
    }

    HL_MEMBER void add_second() const {
        if (s.second == nullptr) return;
        const std::int64_t numbers = s.full ? triangle(dim, 0) : dim;
        for (std::int64_t p = 0; p < paths; ++p) {
            double* const second = s.second + (chain * paths + p) * numbers;
            for (std::int64_t i = 0; i < dim; ++i) {
                const double y = relative(p, i);
                if (s.full) {
                    for (std::int64_t k = 0; k <= i; ++k)
                        second[triangle(i, k)] += y * relative(p, k);
                } else {
                    second[i] = add_square(second[i], y);
                }
            }
        }
    }

    HL_MEMBER void store_slot(std::int64_t averaged) const {
        if (s.path == nullptr || averaged % s.stride != 0) return;
        const std::int64_t slot = averaged / s.stride - 1, size = copies * dim;
        if (slot >= s.slots) return;
        for (std::int64_t k = 0; k < size; ++k)
            s.path[(chain * s.slots + slot) * size + k] = sums[k];
    }
};

template <class Real>
static HL_NOINLINE void add_statistics(const SgdChains<Real>& chains, std::int64_t first_chain,
                                       int count, std::int64_t step) {
    const std::int64_t averaged = chains.statistics.count + (step - chains.first_step) + 1;
    for (int c = 0; c < count; ++c) {
        const ChainStatistics<Real> statistics(chains, first_chain + c, averaged);
        statistics.add_scaling();
        statistics.add_second();
        statistics.store_slot(averaged);
    }
}

template <class V>
struct CustomTile {
    static constexpr int lanes = LaneTraits<V>::lanes;
    using Real = RealOf<V>;
    using Word = WordsOf<Real>;

    // Copies: what is local does not have to be loaded again after each call of the gradient.
    const SgdChains<Real> chains;
    const SgdCustom<Real> p;
    PhiloxKey key;
    std::int64_t first_chain, size;
    int live, group;
    bool ruled;
    std::int64_t num_noise;
    PackRows<V> normal_rows, uniform_rows;
    void* memory;
    Real* noise;       // (lanes, num_noise)
    Real* gradient;    // (group, J, d), then the next iterates
    Real* step_sizes;  // (group, J, d), or (lanes, J, d) when each chain has its own
    Real* difference;  // (d,) for projections

    HL_MEMBER CustomTile(const SgdChains<Real>& c, const SgdCustom<Real>& parameters,
                         std::int64_t index)
        : chains(c),
          p(parameters),
          key(philox_key(c.seed)),
          first_chain(index * lanes),
          size(c.num_step_sizes * c.dim),
          group(1),
          ruled(!c.rules.trivial()),
          num_noise(parameters.num_normals + parameters.num_uniforms) {
        const std::int64_t left = c.num_chains - first_chain;
        live = left < lanes ? static_cast<int>(left) : lanes;
        while (2 * group <= lanes && 2 * group * size <= coordinates_at_once)
            group *= 2;
        const bool own = c.step_size_stride != 0;
        const std::int64_t kept = (own ? lanes : group) * size;
        const std::int64_t reals = lanes * num_noise + group * size + kept + (ruled ? c.dim : 0);
        memory = std::malloc(static_cast<std::size_t>(reals) * sizeof(Real));
        if (memory == nullptr) return;
        noise = static_cast<Real*>(memory);
        gradient = noise + lanes * num_noise;
        step_sizes = gradient + group * size;
        difference = step_sizes + kept;
        for (std::int64_t k = 0; k < kept; ++k) {
            const std::int64_t lane = k / size;
            const std::int64_t chain = first_chain + (lane < live ? lane : 0);
            step_sizes[k] = c.step_sizes[chain * c.step_size_stride + k / c.dim % c.num_step_sizes];
        }
    }
    HL_MEMBER ~CustomTile() { std::free(memory); }
    CustomTile(const CustomTile&) = delete;
    CustomTile& operator=(const CustomTile&) = delete;

    HL_MEMBER void begin_block(std::int64_t step) {
        const std::uint64_t row = static_cast<std::uint64_t>(chains.chain_offset + first_chain);
        normal_rows =
            PackRows<V>::prepare(row, step, static_cast<std::uint32_t>(Stream::noise), key);
        uniform_rows =
            PackRows<V>::prepare(row, step, static_cast<std::uint32_t>(Stream::labels), key);
    }

    HL_MEMBER void draw(std::int64_t step) {
        V block[4];
        for (std::int64_t i = 0; i < p.num_normals; i += 4) {
            draw_normals(normal_rows, step, static_cast<std::uint32_t>(i >> 2), key, block);
            spread(block, i, p.num_normals, 0);
        }
        for (std::int64_t i = 0; i < p.num_uniforms; i += 4) {
            draw_uniforms(uniform_rows, step, static_cast<std::uint32_t>(i >> 2), key, block);
            spread(block, i, p.num_uniforms, p.num_normals);
        }
    }

    HL_MEMBER Status advance(std::int64_t step) {
        for (int lane = 0; lane < live; lane += group) {
            const int count = live - lane < group ? live - lane : group;
            const Status status = call_gradients(step, lane, count);
            if (HL_UNLIKELY(!status.ok())) return status;
            const std::int64_t cell = (first_chain + lane) * chains.num_step_sizes;
            const Real* const own = step_sizes + (chains.step_size_stride == 0 ? 0 : lane * size);
            if (HL_UNLIKELY(ruled)) {
                propose_by_rules(cell, count * chains.num_step_sizes, step, own);
                take_over(cell, count * size, step, true);
            } else {
                take_over(cell, count * size, step, propose(cell, count * size, own));
            }
            if (HL_UNLIKELY(chains.accumulate && chains.statistics.any()))
                add_statistics(chains, first_chain + lane, count, step);
        }
        return Status::success();
    }

  private:
    HL_MEMBER void spread(const V* block, std::int64_t i, std::int64_t count, std::int64_t at) {
        const int live_block = count - i < 4 ? static_cast<int>(count - i) : 4;
        for (int c = 0; c < live_block; ++c) {
            for (int lane = 0; lane < lanes; ++lane) {
                noise[lane * num_noise + at + i + c] = block[c][lane];
            }
        }
    }

    HL_MEMBER Status call_gradients(std::int64_t step, int lane, int count) {
        const std::int64_t d = chains.dim;
        std::int64_t cell = (first_chain + lane) * chains.num_step_sizes;
        Real* target = gradient;
        for (int c = lane; c < lane + count; ++c) {
            for (std::int64_t j = 0; j < chains.num_step_sizes; ++j, ++cell, target += d) {
                if (HL_UNLIKELY(chains.flags[cell] != 0)) {
                    for (std::int64_t i = 0; i < d; ++i)
                        target[i] = 0;
                    continue;
                }
                const std::int32_t returned = p.gradient(
                    chains.theta + cell * d, noise + c * num_noise, step, p.data, target);
                if (HL_UNLIKELY(returned != 0)) {
                    return Status::user_function("sgd_custom", returned, first_chain + c);
                }
            }
        }
        return Status::success();
    }

    // The copies from `cell` on, `count` coordinates in all, as one vector: from gradients to the
    // next iterates. Returns whether one left the range.
    HL_MEMBER bool propose(std::int64_t cell, std::int64_t count, const Real* HL_RESTRICT own) {
        const Real* HL_RESTRICT theta = chains.theta + cell * chains.dim;
        Real* HL_RESTRICT next = gradient;
        Word outside = 0;
        for (std::int64_t k = 0; k < count; ++k) {
            next[k] = sgd_update(theta[k], own[k], next[k]);
            outside |= within(next[k], chains.divergence_limit) ? Word{0} : Word{1};
        }
        return outside != 0;
    }

    // The same for `count` copies under rules, which must not move what is frozen.
    HL_MEMBER void propose_by_rules(std::int64_t cell, std::int64_t count, std::int64_t step,
                                    const Real* own) {
        const std::int64_t d = chains.dim;
        const double factor = schedule_factor(chains.rules, step);
        for (std::int64_t c = 0; c < count; ++c) {
            const Real* theta = chains.theta + (cell + c) * d;
            Real* next = gradient + c * d;
            if (chains.flags[cell + c] != 0) {
                for (std::int64_t i = 0; i < d; ++i)
                    next[i] = theta[i];
                continue;
            }
            rule_gradient(chains.rules, d, theta, next);
            const Real step_size = scheduled(chains.rules, own[c * d], factor);
            for (std::int64_t i = 0; i < d; ++i)
                next[i] = sgd_update(theta[i], step_size, next[i]);
            project(chains.rules, d, next, difference);
        }
    }

    HL_MEMBER void take_over(std::int64_t cell, std::int64_t count, std::int64_t step,
                             bool look_for_diverged) {
        Real* HL_RESTRICT theta = chains.theta + cell * chains.dim;
        const Real* HL_RESTRICT next = gradient;
        if (HL_UNLIKELY(look_for_diverged)) keep_diverged(cell, count / chains.dim, step);
        for (std::int64_t k = 0; k < count; ++k)
            theta[k] = next[k];
        if (!chains.accumulate) return;
        double* HL_RESTRICT sums = chains.sums + cell * chains.dim;
        for (std::int64_t k = 0; k < count; ++k)
            accumulate(sums + k, theta[k]);
    }

    // Copies that left the range keep their last iterate from then on.
    HL_MEMBER void keep_diverged(std::int64_t cell, std::int64_t count, std::int64_t step) {
        const std::int64_t d = chains.dim;
        for (std::int64_t c = 0; c < count; ++c) {
            const Real* theta = chains.theta + (cell + c) * d;
            Real* next = gradient + c * d;
            bool good = true;
            for (std::int64_t i = 0; i < d; ++i)
                good = good && within(next[i], chains.divergence_limit);
            if (good) continue;
            for (std::int64_t i = 0; i < d; ++i)
                next[i] = theta[i];
            if (chains.flags[cell + c] != 0) continue;
            chains.flags[cell + c] = 1;
            chains.diverged_at[cell + c] = step;
        }
    }
};

template <class V>
Status run_custom_tile(void* context, std::int64_t index) {
    const auto& call = *static_cast<const Call<RealOf<V>, SgdCustom<RealOf<V>>>*>(context);
    const SgdChains<RealOf<V>>& chains = call.chains;
    CustomTile<V> tile(chains, call.parameters, index);
    if (tile.memory == nullptr) return Status::out_of_memory("sgd_custom");
    const std::int64_t end = chains.first_step + chains.num_steps;
    for (std::int64_t step = chains.first_step; step < end;) {
        const std::int64_t until =
            block_end(step, end, CustomTile<V>::lanes * chains.num_step_sizes * (chains.dim + 20));
        tile.begin_block(step);
        for (; step < until; ++step) {
            tile.draw(step);
            const Status status = tile.advance(step);
            if (HL_UNLIKELY(!status.ok())) return status;
        }
        if (stop_requested()) return Status::interrupted("sgd_custom");
    }
    return Status::success();
}

template <class V>
HL_INLINE Status run_custom(const SgdChains<RealOf<V>>& chains, const SgdCustom<RealOf<V>>& p) {
    Call<RealOf<V>, SgdCustom<RealOf<V>>> call{chains, p};
    const std::int64_t tiles =
        (chains.num_chains + LaneTraits<V>::lanes - 1) / LaneTraits<V>::lanes;
    return parallel_for(tiles, chains.num_threads, run_custom_tile<V>, &call);
}

}  // namespace

Status sgd_custom(const SgdChains<float>& chains, const SgdCustom<float>& p) {
    return run_custom<f32v>(chains, p);
}
Status sgd_custom(const SgdChains<double>& chains, const SgdCustom<double>& p) {
    return run_custom<f64v>(chains, p);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
