// One step of the chains of a pack, in every form, for any objective: what the drivers of the CPU
// and of a GPU have in common. Where the arrays of the chains live is theirs.
//
// A is an array of V (a pointer, or Strided), Sums one of sums in double:
//     add(s, V); add_product(s, V, V); get(s, lane); set(s, lane, double).
// Objective: objective(at, step, slope, value) writes gradient and value at the weights `at`;
// objective.epoch above 0 says that steps see minibatches, and how many of them see as many rows
// as there are: the objective itself is looked at each time that the number of the step is a
// multiple of it.
#pragma once

#include "step_accelerated.hpp"
#include "step_metropolis.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// The step that stands for all rows of the data.
constexpr std::int64_t all_rows = -1;

// The word of the exchange stream that accepts or rejects; exchanges of chains take the first.
constexpr int acceptance_word = 1;

HL_INLINE float lane_of(float x, int) {
    return x;
}
HL_INLINE double lane_of(double x, int) {
    return x;
}
HL_INLINE void set_lane(float& x, int, float value) {
    x = value;
}
HL_INLINE void set_lane(double& x, int, double value) {
    x = value;
}

#if !defined(__CUDACC__)
template <class V>
HL_INLINE RealOf<V> lane_of(const V& x, int lane) {
    return x[lane];
}
template <class V>
HL_INLINE void set_lane(V& x, int lane, RealOf<V> value) {
    x[lane] = value;
}
#endif

// What is called from several places. nvcc takes minutes to inline it into all of them.
#if defined(__CUDACC__) && !defined(HL_CUDA_SHIM)
#define HL_SHARED_MEMBER __noinline__ __host__ __device__
#else
#define HL_SHARED_MEMBER HL_MEMBER
#endif

template <class V, class A, class Sums, class Objective>
struct Chain {
    static constexpr int lanes = LaneTraits<V>::lanes;
    using Real = RealOf<V>;

    const SimplexChains<Real>& chains;
    Objective objective;
    std::int64_t first_chain, dim;
    int live;  // lanes that hold a chain; the others repeat the first
    PhiloxKey key;
    A x, next, gradient, noise, root, best_x;
    A slow, middle;                // v and y of the accelerated form
    A returning, next_slope;       // the way back and the gradient there, of the metropolis form
    Sums sums, squares, products;  // (d,), (d,), (d, d)
    V step_size, temperature, value, best_value, smallest, frozen, acceleration, gamma;
    V base;  // sum (alpha - 1/2) log x at x, of the metropolis form
    PackRows<V> rows, exchange_rows;
    std::int64_t floored[lanes], clipped[lanes], accepted[lanes];

    HL_MEMBER Chain(const SimplexChains<Real>& c, const Objective& o, std::int64_t first)
        : chains(c),
          objective(o),
          first_chain(first),
          dim(c.dim),
          live(c.num_chains - first < lanes ? static_cast<int>(c.num_chains - first) : lanes),
          key(philox_key(c.seed)) {}

    // How many arrays of `dim` numbers share out() takes, besides noise and sums.
    static constexpr std::int64_t num_arrays = 9;

    static HL_MEMBER std::int64_t noise_length(std::int64_t dim) { return (dim + 3) / 4 * 4; }

    // Gives out the arrays, laid end to end.
    HL_MEMBER void share_out(A memory) {
        A* const parts[num_arrays] = {&x,    &next,   &gradient,  &root,      &best_x,
                                      &slow, &middle, &returning, &next_slope};
        for (int k = 0; k < num_arrays; ++k)
            *parts[k] = memory + k * dim;
        noise = memory + num_arrays * dim;
    }

    HL_MEMBER void load_state() {
        for (int lane = 0; lane < lanes; ++lane)
            load_lane(lane, first_chain + (lane < live ? lane : 0));
    }

    HL_MEMBER void store_state() {
        for (int lane = 0; lane < live; ++lane)
            store_lane(lane, first_chain + lane);
    }

    HL_MEMBER void begin_block(std::int64_t step) {
        rows = prepare_rows(step, Stream::noise);
        if (chains.form == SimplexForm::metropolis)
            exchange_rows = prepare_rows(step, Stream::exchange);
    }

    // What the first step of a call finds already there: the metropolis form keeps what it knows
    // of x.
    HL_MEMBER void begin() {
        if (chains.form != SimplexForm::metropolis) return;
        evaluate(x, all_rows, gradient, value);
        note(x);
        base = base_at(x);
        StepReport<V> report = begin_report();
        report.finite = finite_lanes(value);
        freeze_lanes(chains.first_step, report);
    }

    HL_MEMBER void advance(std::int64_t step) {
        if (chains.form == SimplexForm::metropolis) {
            advance_metropolis(step);
        } else if (chains.form == SimplexForm::accelerated) {
            advance_accelerated(step);
        } else {
            advance_plainly(step);
        }
        if (chains.accumulate) add_moments();
    }

    // Where a later call would look at x again anyway, x is among the points that were met.
    HL_MEMBER void finish() {
        if (chains.form == SimplexForm::metropolis) return;
        evaluate(x, all_rows, gradient, value);
        if (objective.epoch == 0 && chains.form != SimplexForm::accelerated) note(x);
    }

  private:
    HL_MEMBER void load_lane(int lane, std::int64_t chain) {
        const Real one = 1, zero = 0;
        for (std::int64_t s = 0; s < dim; ++s) {
            set_lane(x[s], lane, chains.x[chain * dim + s]);
            set_lane(best_x[s], lane, chains.best_x[chain * dim + s]);
            sums.set(s, lane, chains.sums[chain * dim + s]);
            squares.set(s, lane, chains.squares[chain * dim + s]);
        }
        if (chains.products != nullptr) {
            for (std::int64_t k = 0; k < dim * dim; ++k)
                products.set(k, lane, chains.products[chain * dim * dim + k]);
        }
        if (chains.auxiliary != nullptr) {
            const Real* const own = chains.auxiliary + chain * (dim + 1);
            for (std::int64_t s = 0; s < dim; ++s)
                set_lane(slow[s], lane, own[s]);
            set_lane(gamma, lane, own[dim]);
            set_lane(acceleration, lane, chains.accelerations[chain]);
        }
        set_lane(step_size, lane, chains.step_sizes[chain]);
        set_lane(temperature, lane, chains.temperatures[chain]);
        set_lane(value, lane, chains.value[chain]);
        set_lane(best_value, lane, chains.best_value[chain]);
        set_lane(smallest, lane, chains.smallest[chain]);
        set_lane(frozen, lane, chains.flags[chain] != 0 ? one : zero);
        floored[lane] = 0;
        clipped[lane] = 0;
        accepted[lane] = 0;
    }

    HL_MEMBER void store_lane(int lane, std::int64_t chain) {
        for (std::int64_t s = 0; s < dim; ++s) {
            chains.x[chain * dim + s] = lane_of(x[s], lane);
            chains.best_x[chain * dim + s] = lane_of(best_x[s], lane);
            chains.sums[chain * dim + s] = sums.get(s, lane);
            chains.squares[chain * dim + s] = squares.get(s, lane);
            if (chains.gradient != nullptr)
                chains.gradient[chain * dim + s] = lane_of(gradient[s], lane);
        }
        if (chains.products != nullptr) {
            for (std::int64_t k = 0; k < dim * dim; ++k)
                chains.products[chain * dim * dim + k] = products.get(k, lane);
        }
        if (chains.auxiliary != nullptr) {
            Real* const own = chains.auxiliary + chain * (dim + 1);
            for (std::int64_t s = 0; s < dim; ++s)
                own[s] = lane_of(slow[s], lane);
            own[dim] = lane_of(gamma, lane);
        }
        chains.value[chain] = lane_of(value, lane);
        chains.best_value[chain] = lane_of(best_value, lane);
        chains.smallest[chain] = lane_of(smallest, lane);
        chains.floored[chain] += floored[lane];
        chains.clipped[chain] += clipped[lane];
        chains.accepted[chain] += accepted[lane];
    }

    HL_MEMBER PackRows<V> prepare_rows(std::int64_t step, Stream stream) const {
        return PackRows<V>::prepare(static_cast<std::uint64_t>(chains.chain_offset + first_chain),
                                    step, static_cast<std::uint32_t>(stream), key);
    }

    static HL_MEMBER MaskOf<V> finite_lanes(V number) {
        const RealOf<V> zero = 0;
        return (number - number) <= zero;
    }

    HL_MEMBER StepReport<V> begin_report() const { return {V{}, smallest, V{} > V{}, V{} <= V{}}; }

    HL_SHARED_MEMBER void evaluate(A at, std::int64_t step, A slope, V& found) {
        objective(at, step, slope, found);
        if (chains.terms.any) add_terms(dim, chains.terms, at, slope, found);
    }

    // Whether the point whose value is known is the best so far.
    HL_MEMBER void note(A at) {
        const MaskOf<V> better = value < best_value;
        if (!any_lane(better)) return;
        best_value = better ? value : best_value;
        for (std::int64_t s = 0; s < dim; ++s)
            best_x[s] = better ? at[s] : best_x[s];
    }

    HL_MEMBER void advance_plainly(std::int64_t step) {
        if (objective.epoch == 0 || step % objective.epoch == 0) {
            evaluate(x, all_rows, gradient, value);
            note(x);
        }
        if (objective.epoch != 0) evaluate(x, step, gradient, value);
        if (chains.noisy) make_noise(step);
        const StepRates<V> rates = rates_of(step - chains.first_step);
        StepReport<V> report = begin_report();
        report.finite = finite_lanes(value);
        for (std::int64_t i = 0; i < chains.num_simplices; ++i)
            move(i, rates, report);
        commit(step, report);
    }

    HL_MEMBER void advance_accelerated(std::int64_t step) {
        const A y = middle, v = slow;
        const Acceleration<V> own = acceleration_rates(acceleration, gamma, chains.convexity);
        const StepRates<V> rates = rates_of(step - chains.first_step);
        StepReport<V> report = begin_report();
        for (std::int64_t i = 0; i < chains.num_simplices; ++i) {
            const std::int64_t at = chains.offsets[i], n = chains.offsets[i + 1] - at;
            accelerated_middle(n, own, x + at, v + at, y + at, report);
        }
        evaluate(y, all_rows, gradient, value);
        note(y);
        report.finite = report.finite & finite_lanes(value);
        for (std::int64_t i = 0; i < chains.num_simplices; ++i) {
            const std::int64_t at = chains.offsets[i], n = chains.offsets[i + 1] - at;
            entropic_step(n, rates, y + at, gradient + at, noise, chains.alpha, false, false,
                          chains.clip, next + at, report);
            copy_packs(n, v + at, root + at);
            accelerated_slow(n, own, y + at, gradient + at, root + at, report);
        }
        const MaskOf<V> stopped = commit(step, report);
        for (std::int64_t s = 0; s < dim; ++s)
            v[s] = stopped ? v[s] : root[s];
        gamma = stopped ? gamma : own.gamma;
    }

    HL_MEMBER void advance_metropolis(std::int64_t step) {
        make_noise(step);
        const StepRates<V> rates = rates_of(step - chains.first_step);
        const A slope = next_slope, back = returning;
        StepReport<V> report = begin_report();
        V there{}, back_again{};
        for (std::int64_t i = 0; i < chains.num_simplices; ++i) {
            const std::int64_t at = chains.offsets[i], n = chains.offsets[i + 1] - at;
            there += propose_on_sphere(n, rates, x + at, gradient + at, noise + at,
                                       chains.alpha + at, chains.corrected, chains.clip, root,
                                       back + at, next + at, report);
        }
        V proposed;
        evaluate(next, all_rows, slope, proposed);
        for (std::int64_t i = 0; i < chains.num_simplices; ++i) {
            const std::int64_t at = chains.offsets[i], n = chains.offsets[i + 1] - at;
            back_again += returning_energy(n, rates, next + at, slope + at, chains.alpha + at,
                                           chains.corrected, back + at, root, noise + at);
        }
        const V proposed_base = base_at(next);
        const V gain =
            (value - proposed) / rates.temperature + (proposed_base - base) + (there - back_again);
        V uniforms[4];
        draw_uniforms(exchange_rows, step, 0, key, uniforms);
        const Real zero = 0;
        const V barred = report.exceeded ? broadcast<V>(Real(1)) : frozen;
        const MaskOf<V> taken =
            report.finite & (log_positive(uniforms[acceptance_word]) < gain) & (barred <= zero);
        take_over(report, taken, proposed, proposed_base);
        note(x);
    }

    // Moves to the proposal where it is taken.
    HL_MEMBER void take_over(const StepReport<V>& report, MaskOf<V> taken, V proposed,
                             V proposed_base) {
        const Real zero = 0;
        for (std::int64_t s = 0; s < dim; ++s) {
            x[s] = taken ? next[s] : x[s];
            gradient[s] = taken ? next_slope[s] : gradient[s];
        }
        value = taken ? proposed : value;
        base = taken ? proposed_base : base;
        smallest = taken ? report.smallest : smallest;
        count(report, frozen > zero);
        for (int lane = 0; lane < lanes; ++lane)
            accepted[lane] += lane_is_set(taken, lane) ? 1 : 0;
    }

    HL_MEMBER V base_at(A at) const {
        return chains.corrected ? log_base<V>(dim, at, chains.alpha) : V{};
    }

    static HL_MEMBER void copy_packs(std::int64_t n, A source, A target) {
        for (std::int64_t s = 0; s < n; ++s)
            target[s] = source[s];
    }

    HL_MEMBER void make_noise(std::int64_t step) {
        if (chains.noise == nullptr) {
            for (std::int64_t i = 0; i < dim; i += 4) {
                V normals[4];
                draw_normals(rows, step, static_cast<std::uint32_t>(i >> 2), key, normals);
                for (int c = 0; c < 4; ++c)
                    noise[i + c] = normals[c];
            }
            return;
        }
        for (int lane = 0; lane < lanes; ++lane) {
            const std::int64_t chain = first_chain + (lane < live ? lane : 0);
            for (std::int64_t s = 0; s < dim; ++s)
                set_lane(noise[s], lane, chains.noise[chain * dim + s]);
        }
    }

    HL_MEMBER StepRates<V> rates_of(std::int64_t k) const {
        const Real one = 1;
        const Real step_factor = chains.step_factors == nullptr ? one : chains.step_factors[k];
        const Real temperature_factor =
            chains.temperature_factors == nullptr ? one : chains.temperature_factors[k];
        return step_rates(V(step_size * step_factor), V(temperature * temperature_factor),
                          chains.floor_scale, chains.floor_least);
    }

    HL_MEMBER void move(std::int64_t i, const StepRates<V>& rates, StepReport<V>& report) {
        const std::int64_t at = chains.offsets[i], n = chains.offsets[i + 1] - at;
        const Real* alpha = chains.alpha + at;
        const A from = x + at, g = gradient + at, z = noise + at, to = next + at;
        switch (chains.form) {
            case SimplexForm::entropic:
                entropic_step(n, rates, from, g, z, alpha, chains.noisy, chains.corrected,
                              chains.clip, to, report);
                break;
            case SimplexForm::sphere:
                sphere_step(n, rates, from, g, z, alpha, chains.noisy, chains.corrected,
                            chains.clip, root, to, report);
                break;
            case SimplexForm::projected:
                projected_step(n, rates, from, g, z, chains.noisy, to, report);
                break;
            default:
                linear_step(n, rates, from, g, to, report);
                break;
        }
    }

    // Takes over the step. A chain whose step is not finite keeps its last point from then on.
    HL_MEMBER MaskOf<V> commit(std::int64_t step, const StepReport<V>& report) {
        const MaskOf<V> stopped = freeze_lanes(step, report);
        if (HL_UNLIKELY(any_lane(stopped))) {
            for (std::int64_t s = 0; s < dim; ++s)
                next[s] = stopped ? x[s] : next[s];
        }
        const A old = x;
        x = next;
        next = old;
        smallest = stopped ? smallest : report.smallest;
        count(report, stopped);
        return stopped;
    }

    // The lanes that stand still, now and from now on.
    HL_MEMBER MaskOf<V> freeze_lanes(std::int64_t step, const StepReport<V>& report) {
        const Real one = 1, zero = 0;
        const V stays = report.finite ? frozen : broadcast<V>(one);
        const MaskOf<V> stopped = stays > zero;
        if (HL_LIKELY(!any_lane(stopped))) return stopped;
        for (int lane = 0; lane < live; ++lane) {
            if (lane_of(stays, lane) == zero || lane_of(frozen, lane) != zero) continue;
            chains.flags[first_chain + lane] = 1;
            chains.failed_at[first_chain + lane] = step;
        }
        frozen = stays;
        return stopped;
    }

    HL_MEMBER void count(const StepReport<V>& report, MaskOf<V> stopped) {
        const Real zero = 0;
        if (HL_LIKELY(!any_lane((report.floored > zero) | report.exceeded))) return;
        for (int lane = 0; lane < lanes; ++lane) {
            if (lane_is_set(stopped, lane)) continue;
            floored[lane] += static_cast<std::int64_t>(lane_of(report.floored, lane));
            clipped[lane] += lane_is_set(report.exceeded, lane) ? 1 : 0;
        }
    }

    HL_MEMBER void add_moments() {
        for (std::int64_t s = 0; s < dim; ++s) {
            sums.add(s, x[s]);
            squares.add_product(s, x[s], x[s]);
        }
        if (chains.products != nullptr) {
            for (std::int64_t i = 0; i < dim; ++i) {
                for (std::int64_t j = 0; j < dim; ++j)
                    products.add_product(i * dim + j, x[i], x[j]);
            }
        }
        if (chains.histogram != nullptr) add_to_histogram();
    }

    HL_MEMBER void add_to_histogram() {
        for (int lane = 0; lane < live; ++lane) {
            std::int64_t* const own =
                chains.histogram + (first_chain + lane) * dim * chains.num_bins;
            for (std::int64_t s = 0; s < dim; ++s)
                own[s * chains.num_bins + bin_of(lane_of(x[s], lane), chains.num_bins)] += 1;
        }
    }
};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

#undef HL_SHARED_MEMBER
