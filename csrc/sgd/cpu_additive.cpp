// Drivers of the problems whose noise is added to the gradient: quadratics and the cosine.
#include "cpu.hpp"
#include "tile.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// Gradients that act on each coordinate alone: the normals of a block of four coordinates go from
// registers into every copy of the chain and are never stored.
template <class V, class Gradient>
struct Separable {
    using Parameters = typename Gradient::Parameters;
    using Real = RealOf<V>;

    Tile<V>& tile;
    Gradient gradient;
    PhiloxKey key;
    PackRows<V> rows;

    HL_MEMBER Separable(Tile<V>& t, const Parameters& p)
        : tile(t), gradient{p}, key(philox_key(t.chains.seed)) {}

    static HL_MEMBER std::int64_t scratch_packs(const SgdChains<Real>&, const Parameters&) {
        return 0;
    }
    HL_MEMBER std::int64_t step_cost() const { return 10 * tile.chains.dim + 2 * tile.size; }

    HL_MEMBER void begin_block(std::int64_t step, std::int64_t) {
        rows = PackRows<V>::prepare(tile.first_row(), step,
                                    static_cast<std::uint32_t>(Stream::noise), key);
    }

    HL_MEMBER void advance(std::int64_t step) {
        const std::int64_t d = tile.chains.dim;
        for (std::int64_t j = 0; j < tile.chains.num_step_sizes; ++j) {
            tile.range[j].reset();
        }
        std::int64_t i = 0;
        for (; i + 8 <= d; i += 8)
            advance_two_blocks(step, i);
        for (; i + 4 <= d; i += 4)
            advance_block(step, i, 4);
        if (i < d) advance_block(step, i, static_cast<int>(d - i));
    }

  private:
    // The long chains of dependent instructions that make the normals of two blocks overlap when
    // their words come first.
    HL_MEMBER void advance_two_blocks(std::int64_t step, std::int64_t i) {
        const std::uint32_t block = static_cast<std::uint32_t>(i >> 2);
        const PhiloxBlock<WordsOf<V>> x = draw_words(rows, step, block, key);
        const PhiloxBlock<WordsOf<V>> y = draw_words(rows, step, block + 1, key);
        V noise[8];
        box_muller(x.word[0], x.word[1], noise[0], noise[1]);
        box_muller(x.word[2], x.word[3], noise[2], noise[3]);
        box_muller(y.word[0], y.word[1], noise[4], noise[5]);
        box_muller(y.word[2], y.word[3], noise[6], noise[7]);
        update(i, 8, noise);
    }

    HL_MEMBER void advance_block(std::int64_t step, std::int64_t i, int count) {
        V noise[4];
        draw_normals(rows, step, static_cast<std::uint32_t>(i >> 2), key, noise);
        update(i, count, noise);
    }

    HL_MEMBER void update(std::int64_t i, int count, const V* noise) {
        const SgdChains<Real>& chains = tile.chains;
        for (std::int64_t j = 0; j < chains.num_step_sizes; ++j) {
            const V* theta = tile.theta + j * chains.dim + i;
            V* next = tile.next + j * chains.dim + i;
            Range<V> range = tile.range[j];
            for (int c = 0; c < count; ++c) {
                const V g = gradient(i + c, theta[c], noise[c]);
                next[c] = sgd_update(theta[c], chains.step_sizes[j], g);
                range.add(next[c], chains.divergence_limit);
            }
            tile.range[j] = range;
        }
    }
};

template <class V>
struct QuadraticGradient {
    using Parameters = SgdQuadratic<RealOf<V>>;
    Parameters p;

    HL_MEMBER V operator()(std::int64_t i, V theta, V noise) const {
        return quadratic_gradient(theta, p.curvature[i], p.minimizer[i], p.noise_scale[i], noise);
    }
};

template <class V>
struct CosineGradient {
    using Parameters = SgdCosine<RealOf<V>>;
    Parameters p;

    HL_MEMBER V operator()(std::int64_t, V theta, V noise) const {
        return cosine_gradient(theta, p.phase, p.noise_scale, noise);
    }
};

// A (t - t*) + B xi: the correlated noise is made once for all copies.
template <class V>
struct QuadraticFull {
    using Parameters = SgdQuadraticFull<RealOf<V>>;
    using Real = RealOf<V>;

    Tile<V>& tile;
    Parameters p;
    PhiloxKey key;
    PackRows<V> rows;
    V* normals;     // (d rounded up to 4,)
    V* noise;       // (d,)
    V* difference;  // (d,)

    HL_MEMBER QuadraticFull(Tile<V>& t, const Parameters& parameters)
        : tile(t),
          p(parameters),
          key(philox_key(t.chains.seed)),
          normals(t.scratch),
          noise(normals + (t.chains.dim + 3) / 4 * 4),
          difference(noise + t.chains.dim) {}

    static HL_MEMBER std::int64_t scratch_packs(const SgdChains<Real>& chains, const Parameters&) {
        return 3 * chains.dim + 3;
    }
    HL_MEMBER std::int64_t step_cost() const {
        return tile.chains.dim * (10 + tile.chains.dim) + tile.size * tile.chains.dim;
    }

    HL_MEMBER void begin_block(std::int64_t step, std::int64_t) {
        rows = PackRows<V>::prepare(tile.first_row(), step,
                                    static_cast<std::uint32_t>(Stream::noise), key);
    }

    HL_MEMBER void advance(std::int64_t step) {
        const std::int64_t d = tile.chains.dim;
        for (std::int64_t i = 0; i < d; i += 4) {
            draw_normals(rows, step, static_cast<std::uint32_t>(i >> 2), key, normals + i);
        }
        for (std::int64_t i = 0; i < d; ++i)
            noise[i] = dot(i + 1, p.noise_factor + i * d, normals);
        for (std::int64_t j = 0; j < tile.chains.num_step_sizes; ++j)
            advance_copy(j);
    }

  private:
    HL_MEMBER void advance_copy(std::int64_t j) {
        const std::int64_t d = tile.chains.dim;
        const V* theta = tile.theta + j * d;
        V* next = tile.next + j * d;
        for (std::int64_t i = 0; i < d; ++i)
            difference[i] = theta[i] - p.minimizer[i];
        Range<V> range;
        range.reset();
        for (std::int64_t i = 0; i < d; ++i) {
            const V g = dot(d, p.matrix + i * d, difference) + noise[i];
            next[i] = sgd_update(theta[i], tile.chains.step_sizes[j], g);
            range.add(next[i], tile.chains.divergence_limit);
        }
        tile.range[j] = range;
    }
};

}  // namespace

template <class V>
using SeparableQuadratic = Separable<V, QuadraticGradient<V>>;
template <class V>
using SeparableCosine = Separable<V, CosineGradient<V>>;

Status sgd_quadratic(const SgdChains<float>& chains, const SgdQuadratic<float>& p) {
    return run_tiles<f32v, SeparableQuadratic<f32v>>(chains, p);
}
Status sgd_quadratic(const SgdChains<double>& chains, const SgdQuadratic<double>& p) {
    return run_tiles<f64v, SeparableQuadratic<f64v>>(chains, p);
}
Status sgd_quadratic_full(const SgdChains<float>& chains, const SgdQuadraticFull<float>& p) {
    return run_tiles<f32v, QuadraticFull<f32v>>(chains, p);
}
Status sgd_quadratic_full(const SgdChains<double>& chains, const SgdQuadraticFull<double>& p) {
    return run_tiles<f64v, QuadraticFull<f64v>>(chains, p);
}
Status sgd_cosine(const SgdChains<float>& chains, const SgdCosine<float>& p) {
    return run_tiles<f32v, SeparableCosine<f32v>>(chains, p);
}
Status sgd_cosine(const SgdChains<double>& chains, const SgdCosine<double>& p) {
    return run_tiles<f64v, SeparableCosine<f64v>>(chains, p);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
