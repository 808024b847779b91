// Drivers of the problems whose noise is added to the gradient: quadratics and the cosine.
#include "cpu.hpp"
#include "step_noise.hpp"
#include "tile.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// The noise of a tile: normals by the short way, other laws through one switch a block.
template <class V>
struct NoiseSource {
    SgdNoise<RealOf<V>> law;
    NoiseConstants<RealOf<V>> constants;
    PhiloxKey key;
    std::uint64_t first_row;
    NoiseRows<V> rows;

    HL_MEMBER NoiseSource(const Tile<V>& tile, const SgdNoise<RealOf<V>>& noise)
        : law(noise),
          constants(NoiseConstants<RealOf<V>>::of(noise)),
          key(philox_key(tile.chains.seed)),
          first_row(tile.first_row()) {}

    HL_MEMBER void begin_block(std::int64_t step) {
        rows = NoiseRows<V>::prepare(first_row, step, key);
    }
    HL_MEMBER bool gaussian() const { return law.law == NoiseLaw::gaussian; }

    HL_MEMBER void draw_gaussian(std::int64_t step, std::int64_t i, V* noise) const {
        draw_normals(rows.noise, step, static_cast<std::uint32_t>(i >> 2), key, noise);
    }
    HL_MEMBER void draw(std::int64_t step, std::int64_t i, V* noise) const {
        draw_other_noise(*this, step, i, noise);
    }

    // The long chains of dependent instructions that make the normals of two blocks overlap when
    // their words come first.
    HL_MEMBER void draw_two_gaussian(std::int64_t step, std::int64_t i, V* noise) const {
        const std::uint32_t block = static_cast<std::uint32_t>(i >> 2);
        const PhiloxBlock<WordsOf<V>> x = draw_words(rows.noise, step, block, key);
        const PhiloxBlock<WordsOf<V>> y = draw_words(rows.noise, step, block + 1, key);
        box_muller(x.word[0], x.word[1], noise[0], noise[1]);
        box_muller(x.word[2], x.word[3], noise[2], noise[3]);
        box_muller(y.word[0], y.word[1], noise[4], noise[5]);
        box_muller(y.word[2], y.word[3], noise[6], noise[7]);
    }
};

template <class V>
static HL_NOINLINE void draw_other_noise(const NoiseSource<V>& source, std::int64_t step,
                                         std::int64_t i, V* noise) {
    draw_noise(source.law, source.constants, source.rows, step, static_cast<std::uint32_t>(i >> 2),
               source.key, noise);
}

// Gradients that act on each coordinate alone: the noise of a block of four coordinates goes from
// registers into every copy of the chain and is never stored.
template <class V, class Gradient>
struct Separable {
    using Parameters = typename Gradient::Parameters;
    using Real = RealOf<V>;

    Tile<V>& tile;
    Gradient gradient;
    NoiseSource<V> source;

    HL_MEMBER Separable(Tile<V>& t, const Parameters& p)
        : tile(t), gradient{p}, source(t, p.noise) {}

    static HL_MEMBER std::int64_t scratch_packs(const SgdChains<Real>&, const Parameters&) {
        return 0;
    }
    HL_MEMBER std::int64_t step_cost() const { return 10 * tile.chains.dim + 2 * tile.size; }

    HL_MEMBER void begin_block(std::int64_t step, std::int64_t) { source.begin_block(step); }

    HL_MEMBER void advance(std::int64_t step) {
        const std::int64_t d = tile.chains.dim;
        for (std::int64_t j = 0; j < tile.chains.num_step_sizes; ++j) {
            tile.range[j].reset();
        }
        V noise[8];
        std::int64_t i = 0;
        if (HL_UNLIKELY(!source.gaussian())) {
            for (; i < d; i += 4) {
                source.draw(step, i, noise);
                update(i, d - i < 4 ? static_cast<int>(d - i) : 4, noise);
            }
            return;
        }
        for (; i + 8 <= d; i += 8) {
            source.draw_two_gaussian(step, i, noise);
            update(i, 8, noise);
        }
        for (; i < d; i += 4) {
            source.draw_gaussian(step, i, noise);
            update(i, d - i < 4 ? static_cast<int>(d - i) : 4, noise);
        }
    }

  private:
    HL_MEMBER void update(std::int64_t i, int count, const V* noise) {
        const SgdChains<Real>& chains = tile.chains;
        for (std::int64_t j = 0; j < chains.num_step_sizes; ++j) {
            const V* theta = tile.theta + j * chains.dim + i;
            V* next = tile.next + j * chains.dim + i;
            if (HL_UNLIKELY(tile.ruled)) {
                for (int c = 0; c < count; ++c)
                    next[c] = gradient(i + c, theta[c], noise[c]);
                continue;
            }
            const V step_size = tile.step_sizes[j];
            Range<V> range = tile.range[j];
            for (int c = 0; c < count; ++c) {
                const V g = gradient(i + c, theta[c], noise[c]);
                next[c] = sgd_update(theta[c], step_size, g);
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
    NoiseSource<V> source;
    V* drawn;       // (d rounded up to 4,)
    V* noise;       // (d,)
    V* difference;  // (d,)

    HL_MEMBER QuadraticFull(Tile<V>& t, const Parameters& parameters)
        : tile(t),
          p(parameters),
          source(t, parameters.noise),
          drawn(t.scratch),
          noise(drawn + (t.chains.dim + 3) / 4 * 4),
          difference(noise + t.chains.dim) {}

    static HL_MEMBER std::int64_t scratch_packs(const SgdChains<Real>& chains, const Parameters&) {
        return 3 * chains.dim + 3;
    }
    HL_MEMBER std::int64_t step_cost() const {
        return tile.chains.dim * (10 + tile.chains.dim) + tile.size * tile.chains.dim;
    }

    HL_MEMBER void begin_block(std::int64_t step, std::int64_t) { source.begin_block(step); }

    HL_MEMBER void advance(std::int64_t step) {
        const std::int64_t d = tile.chains.dim;
        const bool gaussian = source.gaussian();
        for (std::int64_t i = 0; i < d; i += 4) {
            if (HL_LIKELY(gaussian)) {
                source.draw_gaussian(step, i, drawn + i);
            } else {
                source.draw(step, i, drawn + i);
            }
        }
        for (std::int64_t i = 0; i < d; ++i)
            noise[i] = dot(i + 1, p.noise_factor + i * d, drawn);
        for (std::int64_t j = 0; j < tile.chains.num_step_sizes; ++j)
            advance_copy(j);
    }

  private:
    HL_MEMBER void advance_copy(std::int64_t j) {
        const std::int64_t d = tile.chains.dim;
        const V* theta = tile.theta + j * d;
        for (std::int64_t i = 0; i < d; ++i)
            difference[i] = theta[i] - p.minimizer[i];
        tile.move(
            j, [&](std::int64_t i, V) { return dot(d, p.matrix + i * d, difference) + noise[i]; });
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
