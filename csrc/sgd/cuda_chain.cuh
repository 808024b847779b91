// One thread that advances all copies of a chain, for any problem and with all rules and
// statistics. State and sums are lanes of a workspace; what takes O(d^2) numbers stays where the
// caller has it.
#pragma once

#include "../core/pack_memory.hpp"
#include "cuda_lane.cuh"
#include "step_rules.hpp"
#include "step_statistics.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// Copies that a chain reports on: the extrapolated one comes after its own.
template <class T>
HL_INLINE std::int64_t num_paths(const SgdChains<T>& chains) {
    return chains.num_step_sizes + (chains.num_step_sizes > 1 ? 1 : 0);
}

// Between a lane and an array of the caller's. Objects, because NVRTC takes generic lambdas in
// member functions for host code.
struct ReadLane {
    template <class T>
    HL_DEVICE_MEMBER void operator()(Lane<T> lane, const T* source, std::int64_t count) const {
        for (std::int64_t i = 0; i < count; ++i)
            lane[i] = source[i];
    }
};
struct WriteLane {
    template <class T>
    HL_DEVICE_MEMBER void operator()(Lane<T> lane, T* target, std::int64_t count) const {
        for (std::int64_t i = 0; i < count; ++i)
            target[i] = lane[i];
    }
};

// The lanes of one chain. Row J of theta and next is the running mean and its gradient, which the
// plug-in estimate asks for.
template <class T>
struct ChainLanes {
    Lane<T> theta, next;                         // (J, d), or (J + 1, d) with the plug-in
    Lane<T> difference;                          // (d,) of the projection on a ball
    Lane<double> sums;                           // (J, d)
    Lane<double> shift;                          // (J, d)
    Lane<double> squares, products;              // (P, d), (J, d)
    Lane<double> second, deviation;              // (P, d) each, for the diagonal or all of it
    std::int64_t copies, paths, dim, num_theta;  // num_theta: copies with the running mean

    HL_MEMBER ChainLanes(const SgdChains<T>& chains, Shelf<T>& shelf)
        : copies(chains.num_step_sizes), paths(num_paths(chains)), dim(chains.dim) {
        const SgdStatistics& asked = chains.statistics;
        const bool plug_in = asked.plug_hessian != nullptr;
        const bool scaling = asked.squares != nullptr || asked.products != nullptr;
        const bool second_moments = asked.second != nullptr;
        num_theta = copies + (plug_in ? 1 : 0);
        theta = shelf.take(num_theta * dim);
        next = shelf.take(num_theta * dim);
        difference = shelf.take(chains.rules.projection == Projection::ball ? dim : 0);
        sums = shelf.take_doubles(copies * dim);
        shift = shelf.take_doubles(scaling || second_moments ? copies * dim : 0);
        squares = shelf.take_doubles(asked.squares != nullptr ? paths * dim : 0);
        products = shelf.take_doubles(asked.products != nullptr ? copies * dim : 0);
        second = shelf.take_doubles(second_moments && !asked.full ? paths * dim : 0);
        deviation = shelf.take_doubles(second_moments && asked.full ? paths * dim : 0);
    }

    // Calls visit(lane, array of the caller's, numbers) for what a run changes.
    template <class Visit>
    HL_DEVICE_MEMBER void each_changed(const SgdChains<T>& chains, std::int64_t chain,
                                       Visit visit) const {
        const SgdStatistics& asked = chains.statistics;
        const std::int64_t size = copies * dim, path_size = paths * dim;
        visit(theta, chains.theta + chain * size, size);
        visit(sums, chains.sums + chain * size, size);
        if (asked.squares != nullptr) visit(squares, asked.squares + chain * path_size, path_size);
        if (asked.products != nullptr) visit(products, asked.products + chain * size, size);
        if (asked.second != nullptr && !asked.full)
            visit(second, asked.second + chain * path_size, path_size);
    }

    HL_DEVICE_MEMBER void load(const SgdChains<T>& chains, std::int64_t chain) const {
        each_changed(chains, chain, ReadLane());
        const SgdStatistics& asked = chains.statistics;
        if (asked.squares != nullptr || asked.products != nullptr || asked.second != nullptr)
            ReadLane()(shift, asked.shift + chain * copies * dim, copies * dim);
    }

    HL_DEVICE_MEMBER void store(const SgdChains<T>& chains, std::int64_t chain) const {
        each_changed(chains, chain, WriteLane());
    }
};

// From the gradient of one copy in `next` to its next iterate; false when it left the range.
template <class T>
HL_DEVICE bool propose_copy(const SgdRules<T>& rules, const ChainLanes<T>& lanes, std::int64_t copy,
                            T step_size, T limit) {
    const std::int64_t d = lanes.dim;
    const Lane<T> theta = lanes.theta.from(copy * d), next = lanes.next.from(copy * d);
    const T clip = rules.clips ? clip_factor(dot_of<T>(d, next, next), rules.clip_norm) : T(1);
    bool good = true;
    for (std::int64_t i = 0; i < d; ++i) {
        const T t = theta[i];
        T g = next[i];
        if (rules.clips) g = g * clip;
        if (rules.decays) g = decayed(g, rules.weight_decay, t);
        T x = sgd_update(t, step_size, g);
        if (rules.projection == Projection::box)
            x = project_on_interval(x, rules.low[i], rules.high[i]);
        next[i] = x;
        good = good && within(x, limit);
    }
    if (rules.projection != Projection::ball) return good;
    for (std::int64_t i = 0; i < d; ++i)
        lanes.difference[i] = next[i] - rules.center[i];
    const auto ball =
        BallProjection<T>::of(dot_of<T>(d, lanes.difference, lanes.difference), rules.radius);
    good = true;
    for (std::int64_t i = 0; i < d; ++i) {
        next[i] = ball(next[i], lanes.difference[i], rules.center[i]);
        good = good && within(next[i], limit);
    }
    return good;
}

template <class T>
HL_DEVICE void advance_copies(const SgdChains<T>& chains, std::int64_t chain,
                              const ChainLanes<T>& lanes, std::int64_t step) {
    const double factor = schedule_factor(chains.rules, step);
    for (std::int64_t j = 0; j < lanes.copies; ++j) {
        const std::int64_t cell = chain * lanes.copies + j;
        if (chains.flags[cell] != 0) continue;
        const T step_size =
            scheduled(chains.rules, chains.step_sizes[chain * chains.step_size_stride + j], factor);
        if (propose_copy(chains.rules, lanes, j, step_size, chains.divergence_limit)) {
            for (std::int64_t i = j * lanes.dim; i < (j + 1) * lanes.dim; ++i)
                lanes.theta[i] = lanes.next[i];
        } else {
            chains.flags[cell] = 1;
            chains.diverged_at[cell] = step;
        }
    }
}

// sum_j w_j x_j, term by term in the order of `extrapolate`.
HL_DEVICE double add_weighted(double total, double weight, double x, bool first) {
    return first ? weight * x : total + weight * x;
}

// What coordinate i adds to the sums, now of `count` iterates.
template <class T>
HL_DEVICE void add_coordinate(const SgdStatistics& asked, const ChainLanes<T>& lanes,
                              const double* weights, double count, std::int64_t i) {
    const bool scaling = asked.squares != nullptr || asked.products != nullptr;
    double centred_path = 0, deviation_path = 0;
    for (std::int64_t j = 0; j < lanes.copies; ++j) {
        const std::int64_t at = j * lanes.dim + i;
        accumulate(&lanes.sums[at], lanes.theta[at]);
        if (scaling) {
            const double centred = centred_sum(lanes.sums[at], count, lanes.shift[at]);
            if (asked.products != nullptr)
                lanes.products[at] = add_product(lanes.products[at], count, centred);
            if (asked.squares != nullptr)
                lanes.squares[at] = add_square(lanes.squares[at], centred);
            centred_path = add_weighted(centred_path, weights[j], centred, j == 0);
        }
        if (asked.second != nullptr) {
            const double y = static_cast<double>(lanes.theta[at]) - lanes.shift[at];
            if (asked.full) {
                lanes.deviation[at] = y;
            } else {
                lanes.second[at] = add_square(lanes.second[at], y);
            }
            deviation_path = add_weighted(deviation_path, weights[j], y, j == 0);
        }
    }
    if (lanes.copies == 1) return;
    const std::int64_t at = lanes.copies * lanes.dim + i;
    if (asked.squares != nullptr) lanes.squares[at] = add_square(lanes.squares[at], centred_path);
    if (asked.second == nullptr) return;
    if (asked.full) {
        lanes.deviation[at] = deviation_path;
    } else {
        lanes.second[at] = add_square(lanes.second[at], deviation_path);
    }
}

// total[i, k] += x_i x_k over the lower triangle.
template <class X>
HL_DEVICE void add_outer(double* total, std::int64_t d, const X& x) {
    for (std::int64_t i = 0; i < d; ++i) {
        const double x_i = static_cast<double>(x[i]);
        for (std::int64_t k = 0; k <= i; ++k)
            total[triangle(i, k)] += x_i * static_cast<double>(x[k]);
    }
}

// Takes the iterates in; they are number s of the averaged ones.
template <class T>
HL_DEVICE void add_iterates(const SgdChains<T>& chains, std::int64_t chain,
                            const ChainLanes<T>& lanes, std::int64_t s) {
    const SgdStatistics& asked = chains.statistics;
    const std::int64_t d = lanes.dim, size = lanes.copies * d;
    const double* const weights = asked.weights + chain * asked.weight_stride;
    for (std::int64_t i = 0; i < d; ++i)
        add_coordinate(asked, lanes, weights, static_cast<double>(s), i);
    if (asked.second != nullptr && asked.full) {
        const std::int64_t entries = d * (d + 1) / 2;
        double* const second = asked.second + chain * lanes.paths * entries;
        for (std::int64_t p = 0; p < lanes.paths; ++p)
            add_outer(second + p * entries, d, lanes.deviation.from(p * d));
    }
    if (asked.path != nullptr && s % asked.stride == 0 && s / asked.stride <= asked.slots) {
        double* const slot = asked.path + (chain * asked.slots + s / asked.stride - 1) * size;
        for (std::int64_t i = 0; i < size; ++i)
            slot[i] = lanes.sums[i];
    }
}

// The extrapolated mean of the first `count` averaged iterates, to row J of theta.
template <class T>
HL_DEVICE void make_running_mean(const SgdChains<T>& chains, std::int64_t chain,
                                 const ChainLanes<T>& lanes, std::int64_t count) {
    const SgdStatistics& asked = chains.statistics;
    const double* const weights = asked.weights + chain * asked.weight_stride;
    const double inverse_count = 1.0 / static_cast<double>(count);
    for (std::int64_t i = 0; i < lanes.dim; ++i) {
        double total = 0;
        for (std::int64_t j = 0; j < lanes.copies; ++j)
            total = add_weighted(total, weights[j], lanes.sums[j * lanes.dim + i], j == 0);
        lanes.theta[lanes.copies * lanes.dim + i] =
            static_cast<T>(running_mean(total, inverse_count));
    }
}

// All steps of one chain. Problem: gradients(lanes, step, plug_in) writes the gradient of every
// copy to `next` (with plug_in also of the running mean) and tells whether to go on;
// transition(step); store(). False when the problem stopped the run.
template <class T, class Problem>
HL_DEVICE bool run_chain(const SgdChains<T>& chains, std::int64_t chain, const ChainLanes<T>& lanes,
                         Problem& problem) {
    const SgdStatistics& asked = chains.statistics;
    lanes.load(chains, chain);
    const std::int64_t end = chains.first_step + chains.num_steps;
    std::int64_t s = asked.count;
    for (std::int64_t step = chains.first_step; step < end; ++step) {
        const bool plug_in = chains.accumulate && asked.plug_hessian != nullptr && s >= 1;
        if (plug_in) make_running_mean(chains, chain, lanes, s);
        if (!problem.gradients(lanes, step, plug_in)) return false;
        if (plug_in) {
            const std::int64_t entries = lanes.dim * (lanes.dim + 1) / 2;
            add_outer(asked.plug_outer + chain * entries, lanes.dim,
                      lanes.next.from(lanes.copies * lanes.dim));
        }
        advance_copies(chains, chain, lanes, step);
        problem.transition(step);
        if (chains.accumulate) add_iterates(chains, chain, lanes, ++s);
    }
    lanes.store(chains, chain);
    problem.store();
    return true;
}

// The lanes that one thread needs, and `num_scratch` reals for the problem.
template <class T>
HL_INLINE Shelf<T> count_lanes(const SgdChains<T>& chains, std::int64_t num_scratch) {
    Shelf<T> shelf{nullptr, nullptr, 0};
    const ChainLanes<T> lanes(chains, shelf);
    (void)lanes;
    shelf.take(num_scratch);
    return shelf;
}

// The chains of this thread; make(chain, scratch) gives the problem. Stops at the first chain whose
// problem stops the run.
template <class T, class Make>
HL_DEVICE void run_chains(const SgdChains<T>& chains, double* workspace, std::int64_t num_scratch,
                          Make make) {
    const std::int64_t threads = grid_threads();
    const std::int64_t num_doubles = count_lanes(chains, num_scratch).num_doubles;
    T* const reals = reinterpret_cast<T*>(workspace + num_doubles * threads);
    for (std::int64_t chain = grid_thread(); chain < chains.num_chains; chain += threads) {
        Shelf<T> shelf{workspace + grid_thread(), reals + grid_thread(), threads};
        const ChainLanes<T> lanes(chains, shelf);
        auto problem = make(chain, shelf.take(num_scratch));
        if (!run_chain(chains, chain, lanes, problem)) return;
    }
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
