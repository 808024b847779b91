// One element of a batch of flow matching: a point on a path from noise to data, and the velocity
// of the path there. Class A; the twin is python/hotloops/flow/_matching_batch.py.
#pragma once

#include <cstdint>

#include "../core/config.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace flow {

// Lipman et al., "Flow Matching for Generative Modeling", ICLR 2023, equation (22), with
// rest = 1 - sigma: x_t = t x_1 + (1 - rest t) x_0.
template <class T>
HL_INLINE T independent_point(T t, T end, T noise, T rest) {
    return t * end + (T(1) - rest * t) * noise;
}

// Equation (23) with x_t put in, which keeps its digits as t goes to 1.
template <class T>
HL_INLINE T independent_slope(T end, T noise, T rest) {
    return end - rest * noise;
}

// Tong et al., "Improving and generalizing flow-based generative models with minibatch optimal
// transport", TMLR 2024, equation (14), before the sigma of it is added.
template <class T>
HL_INLINE T optimal_point(T t, T end, T noise) {
    return (T(1) - t) * noise + t * end;
}

// The times of a batch, evenly spread from one random start: u is the same for all.
HL_INLINE double antithetic_time(std::int64_t position, double u, std::int64_t size) {
    return (static_cast<double>(position) + u) / static_cast<double>(size);
}

// One of `count` attributes.
HL_INLINE std::int64_t chosen_attribute(double u, std::int64_t count) {
    const std::int64_t drawn = static_cast<std::int64_t>(u * static_cast<double>(count));
    return drawn < count ? drawn : count - 1;
}

}  // namespace flow
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
