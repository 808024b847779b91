// Drivers of the losses over rows that are made in the kernel.
#include "cpu.hpp"
#include "cpu_rows.hpp"
#include "step_streaming.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// A linear model has a normal more than there are features; a logistic one a uniform of its own.
enum class Model { linear, logistic };

template <class V, Model model>
struct StreamSource {
    using Parameters = SgdStreaming<RealOf<V>>;
    using Real = RealOf<V>;
    using Words = WordsOf<V>;
    static constexpr bool has_batches = false;

    const Parameters& p;
    std::int64_t dim, num_normals;
    PhiloxKey key;
    std::uint64_t first_row;
    PackRows<V> features, labels;
    V* normals;    // (num_normals rounded up to 4,) of the row that comes next
    V* latent;     // (d,) z: of the tile when it goes on from step to step
    V next_label;  // the uniform of the row that comes next

    HL_MEMBER StreamSource(Tile<V>& tile, const Parameters& parameters, V* scratch)
        : p(parameters),
          dim(tile.chains.dim),
          num_normals(normals_of(dim)),
          key(philox_key(tile.chains.seed)),
          first_row(tile.first_row()),
          normals(scratch),
          latent(parameters.autoregressive ? tile.auxiliary : scratch) {}

    static HL_MEMBER std::int64_t scratch_packs(const SgdChains<Real>& chains, const Parameters&) {
        return (normals_of(chains.dim) + 3) / 4 * 4;
    }
    HL_MEMBER std::int64_t step_cost(std::int64_t size) const {
        return 40 + (p.full ? dim * dim : 0) + 14 * dim + 2 * size;
    }
    HL_MEMBER Real l2() const { return p.l2; }
    HL_MEMBER Real shape() const { return Real(0); }

    HL_MEMBER void begin_block(std::int64_t step) {
        features = PackRows<V>::prepare(first_row, step,
                                        static_cast<std::uint32_t>(Stream::features), key);
        labels =
            PackRows<V>::prepare(first_row, step, static_cast<std::uint32_t>(Stream::labels), key);
        draw(step);
    }

    HL_MEMBER void look_ahead(std::int64_t step) { draw(step + 1); }

    HL_MEMBER V take_row(std::int64_t, V* columns) {
        if (p.autoregressive) {
            for (std::int64_t i = 0; i < dim; ++i)
                latent[i] = autoregression(p.rho, p.root, latent[i], normals[i]);
        }
        if (p.full) {
            for (std::int64_t i = 0; i < dim; ++i)
                columns[i] = dot(i + 1, p.factor + i * dim, latent);
        } else {
            for (std::int64_t i = 0; i < dim; ++i)
                columns[i] = p.factor[i] * latent[i];
        }
        const V margin = dot(dim, p.theta_true, columns);
        if constexpr (model == Model::linear) {
            return linear_target(margin, p.noise_scale, normals[dim]);
        } else {
            return bernoulli_target(margin, next_label);
        }
    }

  private:
    static HL_MEMBER std::int64_t normals_of(std::int64_t dim) {
        return model == Model::linear ? dim + 1 : dim;
    }

    // Two blocks at a time, whose long chains of dependent instructions overlap. The label's block
    // goes with what is left over.
    HL_MEMBER void draw(std::int64_t step) {
        std::int64_t i = 0;
        for (; i + 4 < num_normals; i += 8)
            draw_two(step, i);
        if constexpr (model == Model::logistic) {
            const PhiloxBlock<Words> label = draw_words(labels, step, 0, key);
            if (i < num_normals) draw_one(step, i);
            next_label = uniform<V>(label.word[0]);
        } else {
            if (i < num_normals) draw_one(step, i);
        }
    }

    HL_MEMBER void draw_two(std::int64_t step, std::int64_t i) {
        const std::uint32_t block = static_cast<std::uint32_t>(i >> 2);
        const PhiloxBlock<Words> x = draw_words(features, step, block, key);
        const PhiloxBlock<Words> y = draw_words(features, step, block + 1, key);
        make_normals(x, i);
        make_normals(y, i + 4);
    }

    HL_MEMBER void draw_one(std::int64_t step, std::int64_t i) {
        make_normals(draw_words(features, step, static_cast<std::uint32_t>(i >> 2), key), i);
    }

    HL_MEMBER void make_normals(const PhiloxBlock<Words>& x, std::int64_t i) {
        box_muller(x.word[0], x.word[1], normals[i], normals[i + 1]);
        if (i + 2 < num_normals) {
            box_muller(x.word[2], x.word[3], normals[i + 2], normals[i + 3]);
        }
    }
};

template <class V>
using LinearStream = RowsProblem<V, LeastSquaresLoss, StreamSource<V, Model::linear>>;
template <class V>
using LogisticStream = RowsProblem<V, LogisticLoss, StreamSource<V, Model::logistic>>;

}  // namespace

Status sgd_streaming_least_squares(const SgdChains<float>& chains, const SgdStreaming<float>& p) {
    return run_tiles<f32v, LinearStream<f32v>>(chains, p);
}
Status sgd_streaming_least_squares(const SgdChains<double>& chains, const SgdStreaming<double>& p) {
    return run_tiles<f64v, LinearStream<f64v>>(chains, p);
}
Status sgd_streaming_logistic(const SgdChains<float>& chains, const SgdStreaming<float>& p) {
    return run_tiles<f32v, LogisticStream<f32v>>(chains, p);
}
Status sgd_streaming_logistic(const SgdChains<double>& chains, const SgdStreaming<double>& p) {
    return run_tiles<f64v, LogisticStream<f64v>>(chains, p);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
