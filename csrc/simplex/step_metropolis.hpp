// The Metropolis-adjusted sphere form.
//
// On the sphere u = sqrt(x) the law exp(-beta f) prod x^(alpha - 1) dx has the density
//     pi(u) = exp(-beta f(u^2)) prod_s |u_s|^(2 alpha_s - 1)
// with respect to the area, since dx = prod x_s^(1/2) dsigma up to a constant. A step draws a
// tangent vector V = m(u) + s w, where m = -(eps/2) (p - u (u.p)), s^2 = eps / (2 beta), and w is
// the tangent part of a standard normal, and follows the geodesic: u' = exp_u(V). The map
// (u, V) -> (u', V'), V' = -(velocity on arrival), is its own inverse and keeps the measure
// dsigma dV, being the geodesic flow of unit time and a change of sign (Liouville), however long V
// is. So accepting with probability min(1, pi(u') N(V'; m(u'), s^2) / (pi(u) N(V; m(u), s^2)))
// leaves pi invariant; no Jacobian of the exponential map and no sum over windings is needed. pi, m
// and N do not change when signs of u are flipped, V' along with u': the reflection at the faces is
// that.
#pragma once

#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// p_s = u_s g_s + (1/2 - alpha_s) / (beta u_s), of which m(u) is made.
template <class V>
HL_INLINE V sphere_slope(V u, V g, V lowest, V temperature, RealOf<V> alpha, bool corrected) {
    V slope = u * g;
    if (corrected) {
        const RealOf<V> half = RealOf<V>(0.5);
        const V above = u < lowest ? lowest : u;
        slope += ((half - alpha) * temperature) / above;
    }
    return slope;
}

// sum_s (alpha_s - 1/2) log x_s, the part of log pi that the base measure adds.
template <class V, class X>
HL_INLINE V log_base(std::int64_t n, X x, const RealOf<V>* alpha) {
    const RealOf<V> half = RealOf<V>(0.5);
    V sum{};
    for (std::int64_t s = 0; s < n; ++s)
        sum += (alpha[s] - half) * log_positive(x[s]);
    return sum;
}

// The proposal of one simplex. `next` gets x' and `returning` the V' that leads back. Returns
// |w|^2 / 2, which is -log N(V; m, s^2) up to a constant. An angle beyond `clip` is no proposal: it
// would be as long on the way back.
template <class V, class X, class G, class Z, class Y>
HL_INLINE V propose_on_sphere(std::int64_t n, const StepRates<V>& rates, X x, G g, Z z,
                              const RealOf<V>* alpha, bool corrected, RealOf<V> clip, Y u,
                              Y returning, Y next, StepReport<V>& report) {
    const RealOf<V> one = 1, half = RealOf<V>(0.5), zero = 0;
    const V lowest = square_root(floor_of(rates, n));
    for (std::int64_t s = 0; s < n; ++s) {
        u[s] = square_root(x[s]);
        next[s] = sphere_slope(u[s], g[s], lowest, rates.temperature, alpha[s], corrected);
    }
    const V pull = inner_product<V>(n, u, next);
    const V along = inner_product<V>(n, u, z);
    V energy{};
    for (std::int64_t s = 0; s < n; ++s) {
        const V tangent = z[s] - u[s] * along;
        energy += tangent * tangent;
        returning[s] = half * (rates.step * (u[s] * pull - next[s]) + rates.noise * tangent);
    }
    const V length = square_root(inner_product<V>(n, returning, returning));
    const V top = broadcast<V>(clip);
    report.exceeded = report.exceeded | (length > top);
    const V angle = length > top ? top : length;
    const RealOf<V> quarter_turn = RealOf<V>(1.5707963267948966);
    const V forward = sine(V(angle + quarter_turn));
    const V sideways = sine(angle);
    const V inverse_length = one / (length > zero ? length : broadcast<V>(one));
    V total{};
    for (std::int64_t s = 0; s < n; ++s) {
        const V moved = forward * u[s] + (sideways * inverse_length) * returning[s];
        const V back = (length * sideways) * u[s] - forward * returning[s];
        returning[s] = moved < zero ? V(-back) : back;
        next[s] = moved * moved;
        total += next[s];
    }
    normalise(n, total, broadcast<V>(smallest_weight<V>), next, report);
    return half * energy;
}

// -log N(V'; m(u'), s^2) up to the same constant, for the simplex at x' with gradient g'.
template <class V, class X, class G, class B, class Y>
HL_INLINE V returning_energy(std::int64_t n, const StepRates<V>& rates, X x, G g,
                             const RealOf<V>* alpha, bool corrected, B returning, Y u, Y slope) {
    const RealOf<V> half = RealOf<V>(0.5);
    const V lowest = square_root(floor_of(rates, n));
    for (std::int64_t s = 0; s < n; ++s) {
        u[s] = square_root(x[s]);
        slope[s] = sphere_slope(u[s], g[s], lowest, rates.temperature, alpha[s], corrected);
    }
    const V pull = inner_product<V>(n, u, slope);
    const RealOf<V> two = 2;
    V energy{};
    for (std::int64_t s = 0; s < n; ++s) {
        const V tangent =
            (two * returning[s] - rates.step * (u[s] * pull - slope[s])) / rates.noise;
        energy += tangent * tangent;
    }
    return half * energy;
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
