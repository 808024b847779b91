// Driver of linear stochastic approximation driven by a finite Markov chain.
#include "cpu.hpp"
#include "step_markov.hpp"
#include "tile.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class V>
struct MarkovProblem {
    using Parameters = SgdMarkov<RealOf<V>>;
    using Real = RealOf<V>;
    static constexpr int lanes = LaneTraits<V>::lanes;

    Tile<V>& tile;
    const Parameters& p;
    PhiloxKey key;
    PackRows<V> rows;
    V* matrix;  // (d, d) A[s], one in each lane
    V* offset;  // (d,) b[s]
    std::int32_t state[lanes];

    HL_MEMBER MarkovProblem(Tile<V>& t, const Parameters& parameters)
        : tile(t),
          p(parameters),
          key(philox_key(t.chains.seed)),
          matrix(t.scratch),
          offset(matrix + t.chains.dim * t.chains.dim) {
        for (int lane = 0; lane < lanes; ++lane)
            state[lane] = static_cast<std::int32_t>(tile.auxiliary[0][lane]);
    }

    static HL_MEMBER std::int64_t scratch_packs(const SgdChains<Real>& chains, const Parameters&) {
        return chains.dim * (chains.dim + 1);
    }
    HL_MEMBER std::int64_t step_cost() const {
        return 40 + tile.chains.dim * (2 * tile.chains.dim + tile.size);
    }

    HL_MEMBER void begin_block(std::int64_t step, std::int64_t) {
        rows = PackRows<V>::prepare(tile.first_row(), step,
                                    static_cast<std::uint32_t>(Stream::transitions), key);
    }

    HL_MEMBER void advance(std::int64_t step) {
        const std::int64_t d = tile.chains.dim;
        const WordsOf<V> word = draw_words(rows, step, 0, key).word[0];
        gather_state();
        for (std::int64_t j = 0; j < tile.chains.num_step_sizes; ++j) {
            const V* const theta = tile.theta + j * d;
            tile.move(j, [&](std::int64_t i, V) {
                return lsa_gradient(dot(d, matrix + i * d, theta), offset[i]);
            });
        }
        for (int lane = 0; lane < lanes; ++lane) {
            state[lane] = next_state(p, state[lane], static_cast<std::uint32_t>(word[lane]));
            tile.auxiliary[0][lane] = static_cast<Real>(state[lane]);
        }
    }

  private:
    HL_MEMBER void gather_state() {
        const std::int64_t d = tile.chains.dim;
        const Real* matrices[lanes];
        const Real* offsets[lanes];
        for (int lane = 0; lane < lanes; ++lane) {
            matrices[lane] = p.matrices + state[lane] * d * d;
            offsets[lane] = p.offsets + state[lane] * d;
        }
        gather_columns(matrices, d * d, matrix);
        gather_columns(offsets, d, offset);
    }
};

}  // namespace

Status sgd_markov_lsa(const SgdChains<float>& chains, const SgdMarkov<float>& p) {
    return run_tiles<f32v, MarkovProblem<f32v>>(chains, p);
}
Status sgd_markov_lsa(const SgdChains<double>& chains, const SgdMarkov<double>& p) {
    return run_tiles<f64v, MarkovProblem<f64v>>(chains, p);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
