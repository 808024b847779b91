// A tile: one pack of chains in structure-of-arrays order, in memory that stays in L1, advanced
// many steps between one load and one store of the user's arrays.
#pragma once

#include <cstdlib>

#include "../core/blocks.hpp"
#include "../core/interrupt.hpp"
#include "../core/pack_memory.hpp"
#include "../core/pool.hpp"
#include "step.hpp"
#include "step_rules.hpp"
#include "tile_statistics.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

template <class V>
using Mask = decltype(V{} <= V{});

constexpr std::int64_t tile_alignment = 64;

// Whether all coordinates of a copy stay in range, lane by lane. For floats the largest magnitude
// is kept as an integer, which orders NaN above infinity: one instruction less than comparing each.
template <class V>
struct Range {
    V kept;

    HL_MEMBER void reset() { kept = is_single<V> ? V{} : (V)(V{} <= V{}); }

    HL_MEMBER void add(V x, RealOf<V> limit) {
        if constexpr (is_single<V>) {
            const i32v bits = (i32v)as_words(magnitude(x)), largest = (i32v)kept;
            kept = (V)(bits > largest ? bits : largest);
        } else {
            kept = (V)((Mask<V>)kept & within(x, limit));
        }
    }

    HL_MEMBER Mask<V> good(RealOf<V> limit) const {
        if constexpr (is_single<V>) {
            return (i32v)kept <= (i32v)as_words(broadcast<V>(limit));
        } else {
            return (Mask<V>)kept;
        }
    }
};

template <class V>
struct Tile {
    static constexpr int lanes = LaneTraits<V>::lanes;
    using Real = RealOf<V>;

    const SgdChains<Real>& chains;
    std::int64_t first_chain;
    int live;  // lanes that hold a chain; the others repeat the first
    std::int64_t size;
    bool ruled;  // problems leave the gradient in `next` and apply_rules makes the step
    void* memory;
    // A ring of iterates, (depth, J, d): they are added to the sums several at a time, in order, so
    // that the sums are loaded and stored less often. Those from `begin` on are not in yet.
    V* iterates;
    int depth, begin;
    int group, left;  // steps that are added together next, and how many of them are to be made
    V* theta;         // (J, d) in the ring
    V* next;          // (J, d) in the ring, after `theta`
    double* sums;     // (J, d, lanes)
    V* step_sizes;    // (J,)
    V* auxiliary;     // (num_auxiliary,)
    Range<V>* range;  // (J,) whether the step stayed in range
    Mask<V>* frozen;  // (J,)
    V* difference;    // (d,) for projections, when ruled
    V* scratch;
    TileStatistics<V> statistics;

    HL_MEMBER Tile(const SgdChains<Real>& c, std::int64_t index, std::int64_t scratch_packs)
        : chains(c),
          first_chain(index * lanes),
          size(c.num_step_sizes * c.dim),
          ruled(!c.rules.trivial()),
          depth(size * vector_bytes <= deep_below ? 4 : 2),
          begin(0),
          statistics(c) {
        const std::int64_t chains_left = c.num_chains - first_chain;
        live = chains_left < lanes ? static_cast<int>(chains_left) : lanes;
        const std::int64_t sum_packs = size * halves_of<V>;
        const std::int64_t packs = depth * size + sum_packs + statistics.lay_out(nullptr, depth) +
                                   3 * c.num_step_sizes + c.num_auxiliary + (ruled ? c.dim : 0) +
                                   scratch_packs;
        memory = std::aligned_alloc(tile_alignment,
                                    static_cast<std::size_t>(round_up(packs * vector_bytes)));
        if (memory == nullptr) return;
        iterates = static_cast<V*>(memory);
        theta = iterates + (depth - 1) * size;
        next = iterates;
        sums = reinterpret_cast<double*>(iterates + depth * size);
        f64v* const others = reinterpret_cast<f64v*>(sums) + sum_packs;
        step_sizes = reinterpret_cast<V*>(others + statistics.lay_out(others, depth));
        auxiliary = step_sizes + c.num_step_sizes;
        range = reinterpret_cast<Range<V>*>(auxiliary + c.num_auxiliary);
        frozen = reinterpret_cast<Mask<V>*>(range + c.num_step_sizes);
        difference = reinterpret_cast<V*>(frozen + c.num_step_sizes);
        scratch = difference + (ruled ? c.dim : 0);
        plan_group();
    }

    HL_MEMBER ~Tile() { std::free(memory); }
    Tile(const Tile&) = delete;
    Tile& operator=(const Tile&) = delete;

    HL_MEMBER std::uint64_t first_row() const {
        return static_cast<std::uint64_t>(chains.chain_offset + first_chain);
    }

    HL_MEMBER void load_state() {
        const std::int64_t copies = chains.num_step_sizes, numbers = chains.num_auxiliary;
        for (int lane = 0; lane < lanes; ++lane) {
            const std::int64_t chain = first_chain + (lane < live ? lane : 0);
            const Real* source = chains.theta + chain * size;
            const double* source_sums = chains.sums + chain * size;
            for (std::int64_t i = 0; i < size; ++i) {
                theta[i][lane] = source[i];
                sums[i * lanes + lane] = source_sums[i];
            }
            for (std::int64_t j = 0; j < copies; ++j) {
                const bool stopped = chains.flags[chain * copies + j] != 0;
                frozen[j][lane] = stopped ? -1 : 0;
                step_sizes[j][lane] = chains.step_sizes[chain * chains.step_size_stride + j];
            }
            for (std::int64_t i = 0; i < numbers; ++i)
                auxiliary[i][lane] = chains.auxiliary[chain * numbers + i];
        }
        statistics.load(first_chain, live);
    }

    HL_MEMBER void store_state() {
        if (chains.accumulate) add_up(group - left);
        const std::int64_t numbers = chains.num_auxiliary;
        for (int lane = 0; lane < live; ++lane) {
            Real* target = chains.theta + (first_chain + lane) * size;
            double* target_sums = chains.sums + (first_chain + lane) * size;
            for (std::int64_t i = 0; i < size; ++i) {
                target[i] = theta[i][lane];
                target_sums[i] = sums[i * lanes + lane];
            }
            for (std::int64_t i = 0; i < numbers; ++i)
                chains.auxiliary[(first_chain + lane) * numbers + i] = auxiliary[i][lane];
        }
        add_rows_that_wait(statistics);
        add_gradients_that_wait(statistics);
        statistics.store(first_chain, live);
    }

    // One copy's step along gradient(i, theta_i), or, under rules, only the gradient.
    template <class Gradient>
    HL_MEMBER void move(std::int64_t j, Gradient gradient) {
        const std::int64_t d = chains.dim;
        const V* const from = theta + j * d;
        V* const to = next + j * d;
        if (HL_UNLIKELY(ruled)) {
            for (std::int64_t i = 0; i < d; ++i)
                to[i] = gradient(i, from[i]);
            return;
        }
        const V step_size = step_sizes[j];
        Range<V> in_range;
        in_range.reset();
        for (std::int64_t i = 0; i < d; ++i) {
            const V moved = sgd_update(from[i], step_size, V(gradient(i, from[i])));
            to[i] = moved;
            in_range.add(moved, chains.divergence_limit);
        }
        range[j] = in_range;
    }

    // Takes over the step: lanes that left the range keep their last iterate from then on.
    HL_MEMBER void commit(std::int64_t step) {
        for (std::int64_t j = 0; j < chains.num_step_sizes; ++j) {
            const Mask<V> stopped = ~range[j].good(chains.divergence_limit) | frozen[j];
            if (HL_UNLIKELY(any_lane(stopped))) freeze(j, stopped, step);
        }
        theta = next;
        next += size;
        if (--left > 0) return;
        if (chains.accumulate) add_up(group);
        begin += group;
        if (begin == depth) {
            begin = 0;
            next = iterates;
        }
        plan_group();
    }

    HL_MEMBER void freeze(std::int64_t j, Mask<V> stopped, std::int64_t step) {
        for (std::int64_t i = j * chains.dim; i < (j + 1) * chains.dim; ++i) {
            next[i] = stopped ? theta[i] : next[i];
        }
        for (int lane = 0; lane < live; ++lane) {
            if (stopped[lane] == 0 || frozen[j][lane] != 0) continue;
            const std::int64_t cell = (first_chain + lane) * chains.num_step_sizes + j;
            chains.flags[cell] = 1;
            chains.diverged_at[cell] = step;
        }
        frozen[j] = stopped;
    }

  private:
    static constexpr std::int64_t vector_bytes = sizeof(V);
    static constexpr std::int64_t deep_below = 4096;  // bytes of an iterate: all must fit into L1

    // Groups end where the ring ends and where the path wants the sums; plug-in estimates want the
    // sums at each step.
    HL_MEMBER void plan_group() {
        const int room = depth - begin;
        group = room;
        if (chains.accumulate) {
            const std::int64_t due = statistics.until_slot(room);
            group = due < room ? static_cast<int>(due) : room;
            if (statistics.plug) group = 1;
        }
        left = group;
    }

    // Adds the iterates from `begin` on.
    HL_MEMBER void add_up(int steps) {
        const V* const first = iterates + begin * size;
        if (HL_UNLIKELY(statistics.any)) {
            add_statistics(statistics, sums, first, steps);
        } else if (HL_LIKELY(steps == 4)) {
            add_sums<4>(first);
        } else if (steps == 2) {
            add_sums<2>(first);
        } else {
            for (int k = 0; k < steps; ++k)
                add_sums<1>(first + k * size);
        }
        statistics.count += steps;
        if (steps > 0) statistics.store_slot(sums, first_chain, live);
    }

    template <int count>
    HL_MEMBER void add_sums(const V* first) {
        for (std::int64_t i = 0; i < size; ++i)
            accumulate<count>(sums + i * lanes, first + i, size);
    }

    static HL_MEMBER std::int64_t round_up(std::int64_t bytes) {
        return (bytes + tile_alignment - 1) / tile_alignment * tile_alignment;
    }
};

// From the gradients in `next` to the next iterates: clip, decay, update, project.
template <class V>
static HL_NOINLINE void apply_rules(Tile<V>& tile, std::int64_t step) {
    const SgdChains<RealOf<V>>& chains = tile.chains;
    const std::int64_t d = chains.dim;
    const double factor = schedule_factor(chains.rules, step);
    for (std::int64_t j = 0; j < chains.num_step_sizes; ++j) {
        const V* const theta = tile.theta + j * d;
        V* const next = tile.next + j * d;
        rule_gradient(chains.rules, d, theta, next);
        const V step_size = scheduled(chains.rules, tile.step_sizes[j], factor);
        for (std::int64_t i = 0; i < d; ++i)
            next[i] = sgd_update(theta[i], step_size, next[i]);
        project(chains.rules, d, next, tile.difference);
        Range<V> range;
        range.reset();
        for (std::int64_t i = 0; i < d; ++i)
            range.add(next[i], chains.divergence_limit);
        tile.range[j] = range;
    }
}

template <class Real, class Parameters>
struct Call {
    const SgdChains<Real>& chains;
    const Parameters& parameters;
};

// Problem<V>: scratch_packs(chains, parameters); (tile, parameters); begin_block(step, until) and
// advance(step), which writes tile.next and, unless ruled, tile.range.
template <class V, class Problem>
static Status run_tile(void* context, std::int64_t index) {
    using Parameters = typename Problem::Parameters;
    const auto& call = *static_cast<const Call<RealOf<V>, Parameters>*>(context);
    const SgdChains<RealOf<V>>& chains = call.chains;
    Tile<V> tile(chains, index, Problem::scratch_packs(chains, call.parameters));
    if (tile.memory == nullptr) return Status::out_of_memory("sgd");
    tile.load_state();
    Problem problem(tile, call.parameters);
    const std::int64_t end = chains.first_step + chains.num_steps;
    for (std::int64_t step = chains.first_step; step < end;) {
        const std::int64_t until = block_end(step, end, problem.step_cost());
        problem.begin_block(step, until);
        for (; step < until; ++step) {
            problem.advance(step);
            if (HL_UNLIKELY(tile.ruled)) apply_rules(tile, step);
            tile.commit(step);
        }
        if (stop_requested()) return Status::interrupted("sgd");
    }
    tile.store_state();
    return Status::success();
}

template <class V, class Problem>
HL_INLINE Status run_tiles(const SgdChains<RealOf<V>>& chains,
                           const typename Problem::Parameters& parameters) {
    Call<RealOf<V>, typename Problem::Parameters> call{chains, parameters};
    const std::int64_t tiles = (chains.num_chains + Tile<V>::lanes - 1) / Tile<V>::lanes;
    return parallel_for(tiles, chains.num_threads, run_tile<V, Problem>, &call);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
