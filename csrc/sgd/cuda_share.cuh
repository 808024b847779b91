// How the lanes of a group hold one copy of a chain: lane l has the coordinates l, l + lanes,
// l + 2 lanes, ...
#pragma once

#include "../core/cuda_device.cuh"
#include "../core/pack_memory.hpp"
#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// One lane's share, in registers: at most R coordinates.
template <class T, int R>
struct Share {
    T theta_[R], next_[R];
    double sums_[R];
    int count;

    HL_DEVICE_MEMBER Share() {}
    HL_DEVICE_MEMBER Share(const SgdChains<T>& chains, std::int64_t cell, int lane, int lanes,
                           bool live, T*)
        : count(0) {
        for (int r = 0; r < R; ++r) {
            const std::int64_t k = lane + static_cast<std::int64_t>(lanes) * r;
            const bool mine = live && k < chains.dim;
            count += mine ? 1 : 0;
            theta_[r] = mine ? chains.theta[cell * chains.dim + k] : T(0);
            sums_[r] = mine ? chains.sums[cell * chains.dim + k] : 0.0;
        }
    }

    HL_DEVICE_MEMBER void store(const SgdChains<T>& chains, std::int64_t cell, int lane,
                                int lanes) const {
        for (int r = 0; r < R; ++r) {
            const std::int64_t k = lane + static_cast<std::int64_t>(lanes) * r;
            if (r >= count) continue;
            chains.theta[cell * chains.dim + k] = theta_[r];
            chains.sums[cell * chains.dim + k] = sums_[r];
        }
    }

    HL_DEVICE_MEMBER T& theta(int r) { return theta_[r]; }
    HL_DEVICE_MEMBER T& next(int r) { return next_[r]; }
    HL_DEVICE_MEMBER double& sum(int r) { return sums_[r]; }

    template <class Visit>
    HL_DEVICE_MEMBER void each(Visit visit) const {
#pragma unroll
        for (int r = 0; r < R; ++r) {
            if (r < count) visit(r);
        }
    }
};

// The share of a lane whose coordinates do not fit into registers: it stays where it lies, and what
// the step makes goes to the workspace first.
template <class T>
struct Share<T, 0> {
    T *theta_, *next_;
    double* sums_;
    std::int64_t count, lanes;

    HL_DEVICE_MEMBER Share() {}
    HL_DEVICE_MEMBER Share(const SgdChains<T>& chains, std::int64_t cell, int lane, int group,
                           bool live, T* next)
        : theta_(chains.theta + cell * chains.dim + lane),
          next_(next + lane),
          sums_(chains.sums + cell * chains.dim + lane),
          count(live && lane < chains.dim ? (chains.dim - lane + group - 1) / group : 0),
          lanes(group) {}

    HL_DEVICE_MEMBER void store(const SgdChains<T>&, std::int64_t, int, int) const {}

    HL_DEVICE_MEMBER T& theta(std::int64_t r) { return theta_[r * lanes]; }
    HL_DEVICE_MEMBER T& next(std::int64_t r) { return next_[r * lanes]; }
    HL_DEVICE_MEMBER double& sum(std::int64_t r) { return sums_[r * lanes]; }

    template <class Visit>
    HL_DEVICE_MEMBER void each(Visit visit) const {
#pragma unroll 4
        for (std::int64_t r = 0; r < count; ++r)
            visit(r);
    }
};

// Takes over the step unless the copy is frozen.
template <class T, int R>
HL_DEVICE void commit_share(Share<T, R>& share, bool frozen, bool accumulate_sums) {
    share.each([&](auto r) {
        if (!frozen) share.theta(r) = share.next(r);
        if (accumulate_sums) accumulate(&share.sum(r), share.theta(r));
    });
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
