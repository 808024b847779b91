// CUDA drivers of rows that are made in the kernel, one a step, and of linear stochastic
// approximation along a Markov chain. They take every rule and statistic.
#include "cuda_general_sampled.cuh"
#include "step_markov.hpp"
#include "step_streaming.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// Normal features and the target of a model, from the streams of features and labels.
template <class T, bool logistic>
struct MadeRows {
    using Parameters = SgdStreaming<T>;

    const Parameters& p;
    std::int64_t dim;
    PhiloxKey key;
    PackRows<T> feature_rows, label_rows;
    Lane<T> x, normals;  // (d,), (d + 1 rounded up to 4,)
    T* auxiliary;        // (d,) the normals of the last step, when they are autoregressive
    T target;

    HL_DEVICE_MEMBER MadeRows(const SgdChains<T>& chains, const Parameters& parameters,
                              std::int64_t chain, Lane<T> scratch)
        : p(parameters),
          dim(chains.dim),
          key(philox_key(chains.seed)),
          x(scratch),
          normals(scratch.from(chains.dim)),
          auxiliary(chains.auxiliary + chain * chains.num_auxiliary),
          target(0) {
        const std::uint64_t row = static_cast<std::uint64_t>(chains.chain_offset + chain);
        feature_rows = PackRows<T>::prepare(row, chains.first_step,
                                            static_cast<std::uint32_t>(Stream::features), key);
        label_rows = PackRows<T>::prepare(row, chains.first_step,
                                          static_cast<std::uint32_t>(Stream::labels), key);
        for (std::int64_t i = 0; p.autoregressive && i < dim; ++i)
            normals[i] = auxiliary[i];
    }
    static HL_MEMBER std::int64_t num_scratch(const SgdChains<T>& chains) {
        return chains.dim + (chains.dim + 4) / 4 * 4;
    }

    HL_DEVICE_MEMBER std::int64_t batch_size() const { return 1; }
    HL_DEVICE_MEMBER T l2() const { return p.l2; }
    HL_DEVICE_MEMBER T shape() const { return T(0); }
    HL_DEVICE_MEMBER Lane<T> row() const { return x; }

    HL_DEVICE_MEMBER void draw(std::int64_t step, std::int64_t) {
        const std::int64_t count = dim + (logistic ? 0 : 1);
        for (std::int64_t first = 0; first < count; first += 4) {
            T z[4];
            draw_normals(feature_rows, step, static_cast<std::uint32_t>(first >> 2), key, z);
            for (int c = 0; c < 4; ++c) {
                const std::int64_t i = first + c;
                if (p.autoregressive && i < dim)
                    z[c] = autoregression(p.rho, p.root, normals[i], z[c]);
                if (i < count) normals[i] = z[c];
            }
        }
        for (std::int64_t i = 0; i < dim; ++i) {
            x[i] = p.full ? dot_of<T>(i + 1, p.factor + i * dim, normals)
                          : read_only(p.factor + i) * normals[i];
        }
        const T margin = dot_of<T>(dim, p.theta_true, x);
        if constexpr (logistic) {
            T u[4];
            draw_uniforms(label_rows, step, 0, key, u);
            target = bernoulli_target(margin, u[0]);
        } else {
            target = linear_target(margin, p.noise_scale, normals[dim]);
        }
    }

    HL_DEVICE_MEMBER void store() const {
        for (std::int64_t i = 0; p.autoregressive && i < dim; ++i)
            auxiliary[i] = normals[i];
    }
};

// -(A[s] t + b[s]); the auxiliary number is s.
template <class T>
struct MarkovPull {
    using Parameters = SgdMarkov<T>;

    const Parameters& p;
    PhiloxKey key;
    PackRows<T> rows;
    T* auxiliary;
    std::int32_t state;

    HL_DEVICE_MEMBER MarkovPull(const SgdChains<T>& chains, const Parameters& parameters,
                                std::int64_t chain, Lane<T>)
        : p(parameters),
          key(philox_key(chains.seed)),
          auxiliary(chains.auxiliary + chain),
          state(static_cast<std::int32_t>(*auxiliary)) {
        rows = PackRows<T>::prepare(static_cast<std::uint64_t>(chains.chain_offset + chain),
                                    chains.first_step,
                                    static_cast<std::uint32_t>(Stream::transitions), key);
    }
    static HL_MEMBER std::int64_t num_scratch(const SgdChains<T>&) { return 0; }

    HL_DEVICE_MEMBER bool gradients(const ChainLanes<T>& lanes, std::int64_t, bool) const {
        const std::int64_t d = lanes.dim;
        const T* const matrix = p.matrices + state * d * d;
        const T* const offset = p.offsets + state * d;
        for (std::int64_t j = 0; j < lanes.copies; ++j) {
            const Lane<T> theta = lanes.theta.from(j * d), next = lanes.next.from(j * d);
            for (std::int64_t i = 0; i < d; ++i)
                next[i] = lsa_gradient(dot_of<T>(d, matrix + i * d, theta), read_only(offset + i));
        }
        return true;
    }
    HL_DEVICE_MEMBER void transition(std::int64_t step) {
        const auto words = draw_words(rows, step, 0, key);
        state = next_state(p, state, static_cast<std::uint32_t>(words.word[0]));
    }
    HL_DEVICE_MEMBER void store() const { *auxiliary = static_cast<T>(state); }
};

template <class T>
using StreamingLeastSquares = Sampled<T, LeastSquaresLoss, MadeRows<T, false>>;
template <class T>
using StreamingLogistic = Sampled<T, LogisticLoss, MadeRows<T, true>>;

template <class T>
double streaming_cost(const SgdChains<T>& chains, const SgdStreaming<T>& p) {
    const double d = static_cast<double>(chains.dim);
    return 400 + 100 * d + (p.full ? d * d : 0) +
           6 * d * static_cast<double>(chains.num_step_sizes);
}

template <class T>
Status run_streaming_least_squares(const SgdChains<T>& chains, const SgdStreaming<T>& p,
                                   const CudaCall& call, std::int64_t* steps_done) {
    return run_general<T, StreamingLeastSquares<T>>(
        chains, p, call, steps_done, "sgd_streaming_least_squares", streaming_cost(chains, p));
}

template <class T>
Status run_streaming_logistic(const SgdChains<T>& chains, const SgdStreaming<T>& p,
                              const CudaCall& call, std::int64_t* steps_done) {
    return run_general<T, StreamingLogistic<T>>(
        chains, p, call, steps_done, "sgd_streaming_logistic", streaming_cost(chains, p));
}

template <class T>
Status run_markov_lsa(const SgdChains<T>& chains, const SgdMarkov<T>& p, const CudaCall& call,
                      std::int64_t* steps_done) {
    const double d = static_cast<double>(chains.dim);
    return run_general<T, MarkovPull<T>>(
        chains, p, call, steps_done, "sgd_markov_lsa",
        150 + 3 * d * d * static_cast<double>(chains.num_step_sizes));
}

template <class T>
std::int64_t streaming_workspace(const SgdChains<T>& chains) {
    return general_workspace<T, StreamingLeastSquares<T>>(chains);
}
template <class T>
std::int64_t markov_workspace(const SgdChains<T>& chains) {
    return general_workspace<T, MarkovPull<T>>(chains);
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

HL_SGD_CUDA_DEFINE(streaming_least_squares_general, SgdStreaming, hl::run_streaming_least_squares,
                   hl::streaming_workspace)
HL_SGD_CUDA_DEFINE(streaming_logistic_general, SgdStreaming, hl::run_streaming_logistic,
                   hl::streaming_workspace)
HL_SGD_CUDA_DEFINE(markov_lsa_general, SgdMarkov, hl::run_markov_lsa, hl::markov_workspace)
