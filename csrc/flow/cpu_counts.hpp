// What the drivers of counts share.
#pragma once

#include "../core/interrupt.hpp"
#include "../core/pool.hpp"
#include "counts_kernels.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

Status count_likelihood(const LikelihoodJob<float>& job);
Status count_likelihood(const LikelihoodJob<double>& job);
Status count_decode(const DecodeJob<float>& job);
Status count_decode(const DecodeJob<double>& job);

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
