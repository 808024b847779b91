// The loop over steps of a pack of chains, for every objective.
#include "tile.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

HL_INLINE void add_wide_product(double* sums, const f64v& a, const f64v& b) {
    const f64v product = a * b;
    accumulate<1>(sums, &product, 0);
}

HL_INLINE void add_wide_product(double* sums, const f32v& a, const f32v& b) {
    constexpr int half = LaneTraits<f64v>::lanes;
    for (int part = 0; part < 2; ++part) {
        const f64v wide_a = load_widened(reinterpret_cast<const float*>(&a) + part * half);
        const f64v wide_b = load_widened(reinterpret_cast<const float*>(&b) + part * half);
        add_wide_product(sums + part * half, wide_a, wide_b);
    }
}

// Sums in double, one for each lane.
template <class V>
struct PackSums {
    static constexpr int lanes = LaneTraits<V>::lanes;
    double* memory;

    HL_MEMBER void add(std::int64_t s, const V& x) { accumulate<1>(memory + s * lanes, &x, 0); }
    HL_MEMBER void add_product(std::int64_t s, const V& a, const V& b) {
        add_wide_product(memory + s * lanes, a, b);
    }
    HL_MEMBER double get(std::int64_t s, int lane) const { return memory[s * lanes + lane]; }
    HL_MEMBER void set(std::int64_t s, int lane, double sum) { memory[s * lanes + lane] = sum; }
};

// The objective of a call, for the chains of one tile.
template <class V>
struct Evaluation {
    const Objective<V>& objective;
    Place<V> place;
    std::int64_t epoch;

    HL_MEMBER void operator()(const V* at, std::int64_t step, V* gradient, V& value) {
        place.step = step;
        objective.evaluate(objective.parameters, place, at, gradient, &value);
    }
};

template <class V>
struct Tile : Chain<V, V*, PackSums<V>, Evaluation<V>> {
    using Base = Chain<V, V*, PackSums<V>, Evaluation<V>>;
    using Base::dim, Base::lanes, Base::sums, Base::squares, Base::products;

    void* memory;

    HL_MEMBER Tile(const SimplexChains<RealOf<V>>& c, const Objective<V>& o, std::int64_t index)
        : Base(c, {o, {c, index * LaneTraits<V>::lanes, 0, nullptr, all_rows}, o.epoch},
               index * LaneTraits<V>::lanes) {
        constexpr std::int64_t pack = sizeof(V);
        constexpr std::int64_t wide = static_cast<std::int64_t>(sizeof(double)) * lanes / pack;
        const std::int64_t pairs = c.products == nullptr ? 0 : dim * dim;
        const std::int64_t own = Base::num_arrays * dim + Base::noise_length(dim);
        const std::int64_t packs = own + wide * (2 * dim + pairs) + o.scratch_packs;
        memory = std::aligned_alloc(64, static_cast<std::size_t>((packs * pack + 63) / 64 * 64));
        if (memory == nullptr) return;
        V* const first = static_cast<V*>(memory);
        this->share_out(first);
        sums.memory = reinterpret_cast<double*>(first + own);
        squares.memory = sums.memory + dim * lanes;
        products.memory = squares.memory + dim * lanes;
        this->objective.place.live = this->live;
        this->objective.place.scratch = first + own + wide * (2 * dim + pairs);
    }
    HL_MEMBER ~Tile() { std::free(memory); }
    Tile(const Tile&) = delete;
    Tile& operator=(const Tile&) = delete;
};

template <class V>
struct Call {
    const SimplexChains<RealOf<V>>& chains;
    const Objective<V>& objective;
};

template <class V>
Status run_tile(void* context, std::int64_t index) {
    const auto& call = *static_cast<const Call<V>*>(context);
    const SimplexChains<RealOf<V>>& chains = call.chains;
    Tile<V> tile(chains, call.objective, index);
    if (tile.memory == nullptr) return Status::out_of_memory(call.objective.name);
    tile.load_state();
    tile.begin();
    const std::int64_t end = chains.first_step + chains.num_steps;
    const std::int64_t cost = call.objective.cost + 20 * chains.dim + 20;
    for (std::int64_t step = chains.first_step; step < end;) {
        const std::int64_t until = block_end(step, end, cost);
        tile.begin_block(step);
        for (; step < until; ++step)
            tile.advance(step);
        if (stop_requested()) return Status::interrupted(call.objective.name);
    }
    tile.finish();
    tile.store_state();
    return Status::success();
}

template <class V>
HL_INLINE Status run(const SimplexChains<RealOf<V>>& chains, const Objective<V>& objective) {
    Call<V> call{chains, objective};
    const std::int64_t tiles =
        (chains.num_chains + LaneTraits<V>::lanes - 1) / LaneTraits<V>::lanes;
    return parallel_for(tiles, chains.num_threads, run_tile<V>, &call);
}

}  // namespace

Status simplex_run(const SimplexChains<float>& chains, const Objective<f32v>& objective) {
    return run(chains, objective);
}
Status simplex_run(const SimplexChains<double>& chains, const Objective<f64v>& objective) {
    return run(chains, objective);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
