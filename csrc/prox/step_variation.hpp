// Total variation in one dimension by the taut string (Davies and Kovac, Ann. Statist. 29, 2001):
// in the tube of half-width k around the cumulative sums of y, pinned at both ends, the shortest
// path has the slopes x = argmin_x k sum |x_{j+1} - x_j| + |x - y|^2 / 2. The path is found as a
// funnel: from the last certain point, the apex, the convex chain under the upper rim and the
// concave chain over the lower one. Every point enters and leaves a chain at most once: O(n).
#pragma once

#include <cstdint>

#include "../core/config.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

struct Chain {
    std::int64_t* points;
    std::int64_t first, last;  // [first, last) of `points`
    double side;               // +1: upper rim, -1: lower rim

    HL_MEMBER bool empty() const { return first == last; }
};

template <class T>
struct TautString {
    const T* y;
    T* x;  // may be y
    std::int64_t count;
    double k;
    double centre;       // the mean of y
    const double* sums;  // (count + 1,) cumulative sums of y - centre
    Chain upper, lower;
    std::int64_t apex = 0;
    double apex_side = 0.0;

    HL_MEMBER double height(std::int64_t point, double side) const {
        return point < count ? sums[point] + side * k : sums[point];
    }

    // Whether the slope from a to b exceeds that from c to d.
    HL_MEMBER bool steeper(std::int64_t a, double a_side, std::int64_t b, double b_side,
                           std::int64_t c, double c_side, std::int64_t d, double d_side) const {
        const double rise_1 = height(b, b_side) - height(a, a_side);
        const double rise_2 = height(d, d_side) - height(c, c_side);
        return rise_1 * static_cast<double>(d - c) > rise_2 * static_cast<double>(b - a);
    }

    // The path is certain from the apex to `point`; the slope comes from y itself, whose short sums
    // are exact to more digits than differences of long ones.
    HL_MEMBER void settle(std::int64_t point, double side) {
        const double end_side = point < count ? side : 0.0;
        double sum = 0.0;
        for (std::int64_t j = apex; j < point; ++j)
            sum += static_cast<double>(y[j]) - centre;
        const double rise = sum + k * (end_side - apex_side);
        const T slope = static_cast<T>(centre + rise / static_cast<double>(point - apex));
        for (std::int64_t j = apex; j < point; ++j)
            x[j] = slope;
        apex = point;
        apex_side = end_side;
    }

    // Whether `chain` must lose its last point for `point` to follow: it would bend the wrong way.
    HL_MEMBER bool bends(const Chain& chain, std::int64_t point) const {
        const std::int64_t end = chain.points[chain.last - 1];
        const bool alone = chain.last - chain.first == 1;
        const std::int64_t before = alone ? apex : chain.points[chain.last - 2];
        const double before_side = alone ? apex_side : chain.side;
        if (chain.side > 0.0)
            return !steeper(end, chain.side, point, chain.side, before, before_side, end,
                            chain.side);
        return !steeper(before, before_side, end, chain.side, end, chain.side, point, chain.side);
    }

    // Whether the straight line from the apex to `point` of `chain` would cross the first segment
    // of the other chain.
    HL_MEMBER bool crosses(const Chain& chain, const Chain& other, std::int64_t point) const {
        const std::int64_t front = other.points[other.first];
        if (chain.side > 0.0)
            return steeper(apex, apex_side, front, other.side, apex, apex_side, point, chain.side);
        return steeper(apex, apex_side, point, chain.side, apex, apex_side, front, other.side);
    }

    HL_MEMBER void extend(Chain& chain, Chain& other, std::int64_t point) {
        while (!chain.empty() && bends(chain, point))
            --chain.last;
        if (chain.empty()) {
            while (!other.empty() && crosses(chain, other, point)) {
                settle(other.points[other.first], other.side);
                ++other.first;
            }
        }
        chain.points[chain.last++] = point;
    }

    HL_MEMBER void run() {
        for (std::int64_t point = 1; point <= count; ++point) {
            extend(upper, lower, point);
            extend(lower, upper, point);
        }
        if (apex < count) settle(count, 0.0);
    }
};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
