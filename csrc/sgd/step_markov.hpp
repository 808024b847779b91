// Linear stochastic approximation driven by a finite Markov chain: t <- t + gamma (A[s] t + b[s])
// (D. Huo, Y. Chen, Q. Xie, "Bias and extrapolation in Markovian linear stochastic approximation
// with constant stepsizes", 2023).
#pragma once

#include "kernels.hpp"
#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// The gradient's coordinate i from row i of A[s] times t.
template <class V>
HL_INLINE V lsa_gradient(V product, V offset) {
    return -(product + offset);
}

// The state after `state`, from one word (A. J. Walker's alias method, 1977): the high half of
// word S chooses a slot, the low half decides between the slot and its alias.
template <class T>
HL_INLINE std::int32_t next_state(const SgdMarkov<T>& p, std::int32_t state, std::uint32_t word) {
    const std::uint64_t product =
        static_cast<std::uint64_t>(word) * static_cast<std::uint64_t>(p.num_states);
    const std::int64_t at = state * p.num_states + static_cast<std::int64_t>(product >> 32);
    const std::uint32_t threshold = p.threshold[at];
    const std::int32_t alias = p.alias[at];  // read in any case: a branch would be mispredicted
    return static_cast<std::uint32_t>(product) < threshold
               ? static_cast<std::int32_t>(product >> 32)
               : alias;
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
