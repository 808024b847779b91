// Explicit Runge-Kutta methods and the control of Dormand and Prince's step size (Hairer, Norsett,
// Wanner, "Solving ordinary differential equations I", II.4 to II.6). A method with slopes
// k_i = v(t + c_i h, z + h sum_j a_ij k_j) ends in z + h sum_i b_i k_i. Class A.
#pragma once

#include "../core/math.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace flow {

constexpr int max_stages = 7;

struct Tableau {
    int stages;
    double nodes[max_stages];
    double matrix[max_stages][max_stages];
    double weights[max_stages];
};

constexpr Tableau euler = {1, {0.0}, {{}}, {1.0}};

constexpr Tableau midpoint = {2, {0.0, 0.5}, {{}, {0.5}}, {0.0, 1.0}};

constexpr Tableau heun = {2, {0.0, 1.0}, {{}, {1.0}}, {0.5, 0.5}};

constexpr Tableau rk4 = {4,
                         {0.0, 0.5, 0.5, 1.0},
                         {{}, {0.5}, {0.0, 0.5}, {0.0, 0.0, 1.0}},
                         {1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0}};

// The seventh slope is the first of the next step; fixed steps do without it.
constexpr Tableau dopri5 = {
    6,
    {0.0, 1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0, 1.0},
    {{},
     {1.0 / 5.0},
     {3.0 / 40.0, 9.0 / 40.0},
     {44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0},
     {19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0},
     {9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0},
     {35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0}},
    {35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0}};

// The method that the number names: 0 euler, 1 midpoint, 2 heun, 3 rk4, 4 dopri5.
HL_INLINE Tableau tableau_of(int method) {
    switch (method) {
        case 0:
            return euler;
        case 1:
            return midpoint;
        case 2:
            return heun;
        case 3:
            return rk4;
        default:
            return dopri5;
    }
}

// Fifth order less fourth, of the seven slopes.
constexpr double dopri5_error[max_stages] = {
    71.0 / 57600.0,      0.0,          -71.0 / 16695.0, 71.0 / 1920.0,
    -17253.0 / 339200.0, 22.0 / 525.0, -1.0 / 40.0};

// The last polynomial of the continuous extension.
constexpr double dopri5_dense[max_stages] = {
    -12715105075.0 / 11282082432.0,  0.0,
    87487479700.0 / 32700410799.0,   -10690763975.0 / 1880347072.0,
    701980252875.0 / 199316789632.0, -1453857185.0 / 822651844.0,
    69997945.0 / 29380423.0};

// sum_j coefficients[j] slopes[j * stride], without those that are zero.
template <class V>
HL_INLINE V combine_slopes(const RealOf<V>* coefficients, int count, const RealOf<V>* slopes,
                           std::int64_t stride) {
    V total{};
    bool first = true;
    for (int j = 0; j < count; ++j) {
        if (coefficients[j] == RealOf<V>(0)) continue;
        const V term = coefficients[j] * load<V>(slopes + j * stride);
        total = first ? term : V(total + term);
        first = false;
    }
    return total;
}

// value / (atol + rtol max(|z|, |other|)).
template <class V>
HL_INLINE V scaled_by_tolerance(V value, V z, V other, RealOf<V> atol, RealOf<V> rtol) {
    z = z < V{} ? V(-z) : z;
    other = other < V{} ? V(-other) : other;
    const V size = other > z ? other : z;
    return value / (atol + rtol * size);
}

// The state at the part `theta` of a step, of which `bend_sum` is sum_j dense_j k_j.
template <class V>
HL_INLINE V continuous_extension(V z, V change, V first, V last, V bend_sum, V step, V theta) {
    const RealOf<V> one = 1;
    const V rest = one - theta;
    const V bend = step * first - change;
    const V turn = (change - step * last) - bend;
    return z + theta * (change + rest * (bend + theta * (turn + rest * (step * bend_sum))));
}

HL_INLINE double power(double base, double exponent) {
    return exp_bounded(exponent * log_positive(base));
}

// The length of the trial step; d0 and d1 are the norms of z and of its slope.
HL_INLINE double trial_step(double d0, double d1) {
    return d0 < 1e-5 || d1 < 1e-5 ? 1e-6 : 0.01 * d0 / d1;
}

// The first step; d2 is the norm of the change of the slope, divided by h0.
HL_INLINE double first_step(double h0, double d1, double d2) {
    const double largest = d1 > d2 ? d1 : d2;
    double h1 = h0 * 1e-3 > 1e-6 ? h0 * 1e-3 : 1e-6;
    if (largest > 1e-15) h1 = power(0.01 / largest, 1.0 / 6.0);
    return 100.0 * h0 < h1 ? 100.0 * h0 : h1;
}

// By what the step size changes after a step with this error.
HL_INLINE double step_factor(double error) {
    constexpr double safety = 0.9, smallest = 0.2, largest = 10.0;
    if (error == 0.0) return largest;
    const double wanted = safety * power(error, -0.2), least = error < 1.0 ? 1.0 : smallest;
    const double factor = wanted > least ? wanted : least;
    return factor < largest ? factor : largest;
}

}  // namespace flow
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
