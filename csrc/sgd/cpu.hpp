// The CPU drivers of one instruction-set level, by problem and precision.
#pragma once

#include "../core/config.hpp"
#include "kernels.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

Status sgd_quadratic(const SgdChains<float>&, const SgdQuadratic<float>&);
Status sgd_quadratic(const SgdChains<double>&, const SgdQuadratic<double>&);
Status sgd_quadratic_full(const SgdChains<float>&, const SgdQuadraticFull<float>&);
Status sgd_quadratic_full(const SgdChains<double>&, const SgdQuadraticFull<double>&);
Status sgd_cosine(const SgdChains<float>&, const SgdCosine<float>&);
Status sgd_cosine(const SgdChains<double>&, const SgdCosine<double>&);
Status sgd_least_squares(const SgdChains<float>&, const SgdRows<float>&);
Status sgd_least_squares(const SgdChains<double>&, const SgdRows<double>&);
Status sgd_logistic(const SgdChains<float>&, const SgdRows<float>&);
Status sgd_logistic(const SgdChains<double>&, const SgdRows<double>&);
Status sgd_huber(const SgdChains<float>&, const SgdRows<float>&);
Status sgd_huber(const SgdChains<double>&, const SgdRows<double>&);
Status sgd_squared_hinge(const SgdChains<float>&, const SgdRows<float>&);
Status sgd_squared_hinge(const SgdChains<double>&, const SgdRows<double>&);
Status sgd_softplus_hinge(const SgdChains<float>&, const SgdRows<float>&);
Status sgd_softplus_hinge(const SgdChains<double>&, const SgdRows<double>&);
Status sgd_poisson(const SgdChains<float>&, const SgdRows<float>&);
Status sgd_poisson(const SgdChains<double>&, const SgdRows<double>&);
Status sgd_streaming_least_squares(const SgdChains<float>&, const SgdStreaming<float>&);
Status sgd_streaming_least_squares(const SgdChains<double>&, const SgdStreaming<double>&);
Status sgd_streaming_logistic(const SgdChains<float>&, const SgdStreaming<float>&);
Status sgd_streaming_logistic(const SgdChains<double>&, const SgdStreaming<double>&);
Status sgd_markov_lsa(const SgdChains<float>&, const SgdMarkov<float>&);
Status sgd_markov_lsa(const SgdChains<double>&, const SgdMarkov<double>&);
Status sgd_custom(const SgdChains<float>&, const SgdCustom<float>&);
Status sgd_custom(const SgdChains<double>&, const SgdCustom<double>&);

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
