// Losses of a row x with a target, for the general CUDA drivers: rows of a data matrix and rows
// that are made in the kernel.
#pragma once

#include "cuda_general.cuh"
#include "step_losses.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// Source: draw(step, sample) makes the next row; row() has [] and `target` belongs to it;
// batch_size(), l2(), shape().
template <class T, class Loss, class Source>
struct Sampled {
    using Parameters = typename Source::Parameters;

    const SgdChains<T>& chains;
    std::int64_t chain;
    Source source;

    HL_DEVICE_MEMBER Sampled(const SgdChains<T>& all, const Parameters& p, std::int64_t index,
                             Lane<T> scratch)
        : chains(all), chain(index), source(all, p, index, scratch) {}
    static HL_MEMBER std::int64_t num_scratch(const SgdChains<T>& chains) {
        return Source::num_scratch(chains);
    }

    HL_DEVICE_MEMBER bool gradients(const ChainLanes<T>& lanes, std::int64_t step, bool plug_in) {
        const std::int64_t d = lanes.dim, points = lanes.copies + (plug_in ? 1 : 0);
        for (std::int64_t r = 0; r < source.batch_size(); ++r) {
            source.draw(step, r);
            for (std::int64_t j = 0; j < points; ++j) {
                const T margin = dot_of<T>(d, source.row(), lanes.theta.from(j * d));
                add_sample(Loss::residual(margin, source.target, source.shape()),
                           lanes.next.from(j * d), d, r == 0);
                if (j == lanes.copies) add_hessian_of(margin, d);
            }
        }
        const T one = 1;
        const T inverse_batch = one / static_cast<T>(source.batch_size());
        for (std::int64_t i = 0; i < points * d; ++i)
            lanes.next[i] = lanes.next[i] * inverse_batch + source.l2() * lanes.theta[i];
        return true;
    }
    HL_DEVICE_MEMBER void transition(std::int64_t) const {}
    HL_DEVICE_MEMBER void store() const { source.store(); }

  private:
    HL_DEVICE_MEMBER void add_sample(T residual, Lane<T> sum, std::int64_t d, bool first) const {
        for (std::int64_t i = 0; i < d; ++i) {
            const T product = residual * source.row()[i];
            sum[i] = first ? product : sum[i] + product;
        }
    }

    HL_DEVICE_MEMBER void add_hessian_of(T margin, std::int64_t d) const {
        double* const total = chains.statistics.plug_hessian + chain * (d * (d + 1) / 2);
        const double curvature =
            static_cast<double>(Loss::curvature(margin, source.target, source.shape()));
        for (std::int64_t i = 0; i < d; ++i) {
            const double x_i = static_cast<double>(source.row()[i]);
            for (std::int64_t k = 0; k <= i; ++k) {
                double& entry = total[triangle(i, k)];
                entry = add_hessian(entry, curvature, x_i, static_cast<double>(source.row()[k]));
            }
        }
    }
};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
