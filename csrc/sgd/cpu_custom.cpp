// Driver of a gradient that the user compiled: one call for each chain, copy and step. The noise is
// still made for a pack of chains at once.
#include "cpu.hpp"
#include "tile.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class V>
struct CustomTile {
    static constexpr int lanes = LaneTraits<V>::lanes;
    using Real = RealOf<V>;

    const SgdChains<Real>& chains;
    const SgdCustom<Real>& p;
    PhiloxKey key;
    std::int64_t first_chain;
    int live;
    std::int64_t num_noise;
    PackRows<V> normal_rows, uniform_rows;
    void* memory;
    Real* noise;     // (lanes, num_noise)
    Real* gradient;  // (d,)
    Real* next;      // (d,)

    HL_MEMBER CustomTile(const SgdChains<Real>& c, const SgdCustom<Real>& parameters,
                         std::int64_t index)
        : chains(c),
          p(parameters),
          key(philox_key(c.seed)),
          first_chain(index * lanes),
          num_noise(parameters.num_normals + parameters.num_uniforms) {
        const std::int64_t left = c.num_chains - first_chain;
        live = left < lanes ? static_cast<int>(left) : lanes;
        const std::int64_t reals = lanes * num_noise + 2 * c.dim;
        memory = std::malloc(static_cast<std::size_t>(reals) * sizeof(Real));
        noise = static_cast<Real*>(memory);
        gradient = noise + lanes * num_noise;
        next = gradient + c.dim;
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

    // One step of every copy of one chain.
    HL_MEMBER Status advance(std::int64_t step, int lane) {
        const std::int64_t d = chains.dim;
        for (std::int64_t j = 0; j < chains.num_step_sizes; ++j) {
            const std::int64_t cell = (first_chain + lane) * chains.num_step_sizes + j;
            Real* const theta = chains.theta + cell * d;
            if (chains.flags[cell] == 0) {
                const std::int32_t returned =
                    p.gradient(theta, noise + lane * num_noise, step, p.data, gradient);
                if (HL_UNLIKELY(returned != 0)) {
                    return Status::user_function("sgd_custom", returned, first_chain + lane);
                }
                update(theta, cell, chains.step_sizes[j], step);
            }
            if (chains.accumulate) {
                double* const sums = chains.sums + cell * d;
                for (std::int64_t i = 0; i < d; ++i)
                    accumulate(sums + i, theta[i]);
            }
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

    HL_MEMBER void update(Real* theta, std::int64_t cell, Real step_size, std::int64_t step) {
        const std::int64_t d = chains.dim;
        bool good = true;
        for (std::int64_t i = 0; i < d; ++i) {
            next[i] = sgd_update(theta[i], step_size, gradient[i]);
            good = good && within(next[i], chains.divergence_limit);
        }
        if (HL_LIKELY(good)) {
            for (std::int64_t i = 0; i < d; ++i)
                theta[i] = next[i];
        } else {
            chains.flags[cell] = 1;
            chains.diverged_at[cell] = step;
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
            for (int lane = 0; lane < tile.live; ++lane) {
                const Status status = tile.advance(step, lane);
                if (HL_UNLIKELY(!status.ok())) return status;
            }
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
