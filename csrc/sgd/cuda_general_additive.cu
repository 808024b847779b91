// The general CUDA drivers of the problems whose noise, of any law, is added to the gradient.
#include "cuda_general.cuh"
#include "step_noise.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// The noise of one chain, four coordinates at a time.
template <class T>
struct ChainNoise {
    const SgdNoise<T>& noise;
    NoiseConstants<T> constants;
    PhiloxKey key;
    NoiseRows<T> rows;

    HL_DEVICE_MEMBER ChainNoise(const SgdChains<T>& chains, const SgdNoise<T>& law,
                                std::int64_t chain)
        : noise(law), constants(NoiseConstants<T>::of(law)), key(philox_key(chains.seed)) {
        rows = NoiseRows<T>::prepare(static_cast<std::uint64_t>(chains.chain_offset + chain),
                                     chains.first_step, key);
    }
    HL_DEVICE_MEMBER void draw(std::int64_t step, std::int64_t coordinate, T* z) const {
        draw_noise<T>(noise, constants, rows, step, static_cast<std::uint32_t>(coordinate >> 2),
                      key, z);
    }
};

template <class T>
struct QuadraticPull {
    using Parameters = SgdQuadratic<T>;
    HL_DEVICE_MEMBER static T at(const Parameters& p, std::int64_t i, T theta, T noise) {
        return quadratic_gradient(theta, read_only(p.curvature + i), read_only(p.minimizer + i),
                                  read_only(p.noise_scale + i), noise);
    }
};

template <class T>
struct CosinePull {
    using Parameters = SgdCosine<T>;
    HL_DEVICE_MEMBER static T at(const Parameters& p, std::int64_t, T theta, T noise) {
        return cosine_gradient(theta, p.phase, p.noise_scale, noise);
    }
};

// Gradients that act on each coordinate alone.
template <class T, class Pull>
struct Separable {
    using Parameters = typename Pull::Parameters;

    const Parameters& p;
    ChainNoise<T> noise;

    HL_DEVICE_MEMBER Separable(const SgdChains<T>& chains, const Parameters& parameters,
                               std::int64_t chain, Lane<T>)
        : p(parameters), noise(chains, parameters.noise, chain) {}
    static HL_MEMBER std::int64_t num_scratch(const SgdChains<T>&) { return 0; }

    HL_DEVICE_MEMBER bool gradients(const ChainLanes<T>& lanes, std::int64_t step, bool) const {
        for (std::int64_t first = 0; first < lanes.dim; first += 4) {
            T z[4];
            noise.draw(step, first, z);
            for (std::int64_t j = 0; j < lanes.copies; ++j) {
                for (int c = 0; c < 4; ++c) {
                    if (first + c >= lanes.dim) continue;
                    const std::int64_t at = j * lanes.dim + first + c;
                    lanes.next[at] = Pull::at(p, first + c, lanes.theta[at], z[c]);
                }
            }
        }
        return true;
    }
    HL_DEVICE_MEMBER void transition(std::int64_t) const {}
    HL_DEVICE_MEMBER void store() const {}
};

// Row i of a matrix that comes transposed.
template <class T>
struct TransposedRow {
    const T* column;
    std::int64_t stride;

    HL_DEVICE_MEMBER T operator[](std::int64_t k) const { return read_only(column + k * stride); }
};

// A (t - t*) + B xi: the correlated noise is made once for all copies.
template <class T>
struct FullQuadratic {
    using Parameters = SgdQuadraticFull<T>;

    const Parameters& p;
    ChainNoise<T> source;
    Lane<T> difference, noise, drawn;  // (d,), (d,), (d rounded up to 4,)

    HL_DEVICE_MEMBER FullQuadratic(const SgdChains<T>& chains, const Parameters& parameters,
                                   std::int64_t chain, Lane<T> scratch)
        : p(parameters),
          source(chains, parameters.noise, chain),
          difference(scratch),
          noise(scratch.from(chains.dim)),
          drawn(scratch.from(2 * chains.dim)) {}
    static HL_MEMBER std::int64_t num_scratch(const SgdChains<T>& chains) {
        return 2 * chains.dim + (chains.dim + 3) / 4 * 4;
    }

    HL_DEVICE_MEMBER bool gradients(const ChainLanes<T>& lanes, std::int64_t step, bool) const {
        const std::int64_t d = lanes.dim;
        for (std::int64_t first = 0; first < d; first += 4) {
            T z[4];
            source.draw(step, first, z);
            for (int c = 0; c < 4; ++c)
                drawn[first + c] = z[c];
        }
        for (std::int64_t i = 0; i < d; ++i)
            noise[i] = dot_of<T>(i + 1, TransposedRow<T>{p.noise_factor + i, d}, drawn);
        for (std::int64_t j = 0; j < lanes.copies; ++j) {
            for (std::int64_t k = 0; k < d; ++k)
                difference[k] = lanes.theta[j * d + k] - read_only(p.minimizer + k);
            for (std::int64_t i = 0; i < d; ++i) {
                const T pull = dot_of<T>(d, TransposedRow<T>{p.matrix + i, d}, difference);
                lanes.next[j * d + i] = pull + noise[i];
            }
        }
        return true;
    }
    HL_DEVICE_MEMBER void transition(std::int64_t) const {}
    HL_DEVICE_MEMBER void store() const {}
};

template <class T>
double noise_cost(const SgdChains<T>& chains) {
    return 400.0 * static_cast<double>(ceil_div(chains.dim, 4));
}

template <class T>
Status run_quadratic(const SgdChains<T>& chains, const SgdQuadratic<T>& p, const CudaCall& call,
                     std::int64_t* steps_done) {
    return run_general<T, Separable<T, QuadraticPull<T>>>(chains, p, call, steps_done,
                                                          "sgd_quadratic", noise_cost(chains));
}

template <class T>
Status run_cosine(const SgdChains<T>& chains, const SgdCosine<T>& p, const CudaCall& call,
                  std::int64_t* steps_done) {
    return run_general<T, Separable<T, CosinePull<T>>>(chains, p, call, steps_done, "sgd_cosine",
                                                       noise_cost(chains));
}

template <class T>
Status run_quadratic_full(const SgdChains<T>& chains, const SgdQuadraticFull<T>& p,
                          const CudaCall& call, std::int64_t* steps_done) {
    const double d = static_cast<double>(chains.dim);
    const double cost =
        noise_cost(chains) + 3 * d * d * static_cast<double>(chains.num_step_sizes + 1);
    return run_general<T, FullQuadratic<T>>(chains, p, call, steps_done, "sgd_quadratic_full",
                                            cost);
}

template <class T>
std::int64_t quadratic_workspace(const SgdChains<T>& chains) {
    return general_workspace<T, Separable<T, QuadraticPull<T>>>(chains);
}
template <class T>
std::int64_t cosine_workspace(const SgdChains<T>& chains) {
    return general_workspace<T, Separable<T, CosinePull<T>>>(chains);
}
template <class T>
std::int64_t quadratic_full_workspace(const SgdChains<T>& chains) {
    return general_workspace<T, FullQuadratic<T>>(chains);
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

HL_SGD_CUDA_DEFINE(quadratic_general, SgdQuadratic, hl::run_quadratic, hl::quadratic_workspace)
HL_SGD_CUDA_DEFINE(quadratic_full_general, SgdQuadraticFull, hl::run_quadratic_full,
                   hl::quadratic_full_workspace)
HL_SGD_CUDA_DEFINE(cosine_general, SgdCosine, hl::run_cosine, hl::cosine_workspace)
