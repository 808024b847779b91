// The general CUDA drivers of the losses over the rows of a data matrix.
#include "cuda_general_sampled.cuh"
#include "cuda_sampler.cuh"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class T>
struct DataRow {
    const T* features;

    HL_DEVICE_MEMBER T operator[](std::int64_t i) const { return read_only(features + i); }
};

template <class T>
struct DataRows {
    using Parameters = SgdRows<T>;

    const Parameters& p;
    std::int64_t dim;
    LaneSampler<T, 1> sampler;
    const T* features;
    T target;

    HL_DEVICE_MEMBER DataRows(const SgdChains<T>& chains, const Parameters& parameters,
                              std::int64_t chain, Lane<T>)
        : p(parameters),
          dim(chains.dim),
          sampler(parameters, chains.seed, static_cast<std::uint64_t>(chains.chain_offset + chain),
                  chains.first_step, 0),
          features(nullptr),
          target(0) {}
    static HL_MEMBER std::int64_t num_scratch(const SgdChains<T>&) { return 0; }

    HL_DEVICE_MEMBER std::int64_t batch_size() const { return p.batch_size; }
    HL_DEVICE_MEMBER T l2() const { return p.l2; }
    HL_DEVICE_MEMBER T shape() const { return p.shape; }
    HL_DEVICE_MEMBER DataRow<T> row() const { return {features}; }

    // The sampler goes on by itself.
    HL_DEVICE_MEMBER void draw(std::int64_t, std::int64_t) {
        const std::int64_t index = sampler.next();
        features = p.features + index * dim;
        target = read_only(p.targets + index);
    }
    HL_DEVICE_MEMBER void store() const {}
};

template <class T, class Loss>
using Rows = Sampled<T, Loss, DataRows<T>>;

template <class T, class Loss>
Status run_rows(const SgdChains<T>& chains, const SgdRows<T>& p, const CudaCall& call,
                std::int64_t* steps_done, const char* name) {
    const double size = static_cast<double>(chains.num_step_sizes * chains.dim);
    const double cost = static_cast<double>(p.batch_size) *
                        (150 + 60.0 * static_cast<double>(chains.num_step_sizes) + 6 * size);
    return run_general<T, Rows<T, Loss>>(chains, p, call, steps_done, name, cost);
}

// What a chain needs is the same for all losses.
template <class T>
std::int64_t rows_workspace(const SgdChains<T>& chains) {
    return general_workspace<T, Rows<T, LeastSquaresLoss>>(chains);
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

HL_SGD_CUDA_DEFINE_LOSS(least_squares, _general, LeastSquaresLoss)
HL_SGD_CUDA_DEFINE_LOSS(logistic, _general, LogisticLoss)
HL_SGD_CUDA_DEFINE_LOSS(huber, _general, HuberLoss)
HL_SGD_CUDA_DEFINE_LOSS(squared_hinge, _general, SquaredHingeLoss)
HL_SGD_CUDA_DEFINE_LOSS(softplus_hinge, _general, SoftplusHingeLoss)
HL_SGD_CUDA_DEFINE_LOSS(poisson, _general, PoissonLoss)
