// The CPU drivers of admm.solve of one instruction-set level.
#pragma once

#include "../core/pack.hpp"
#include "solve_kernels.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

Status admm_gradient(const AdmmGradient<float>&);
Status admm_gradient(const AdmmGradient<double>&);
Status admm_round(const AdmmRound<float>&);
Status admm_round(const AdmmRound<double>&);
Status admm_optimistic_round(const AdmmGradient<float>&, const AdmmRound<float>&,
                             const AdmmDuals<float>&);
Status admm_optimistic_round(const AdmmGradient<double>&, const AdmmRound<double>&,
                             const AdmmDuals<double>&);

namespace admm {

// One task: sums over some rows of one client. `gradient` and `value` may be null.
template <class T>
struct RowsTask {
    const AdmmGradient<T>& call;
    const AdmmRows<T>& client;
    std::int64_t client_index;
    std::int64_t first, last;  // positions among the client's rows, or in the batch
    const T* w;
    T* gradient;
    double* value;
};

// The sums of a slice of parameters, parameter k in strand k mod 8.
constexpr std::int64_t sum_strands = 8;
struct RoundSums {
    double strand[admm_num_sums][sum_strands];

    HL_MEMBER double fold(int which) const {
        const double* s = strand[which];
        return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
    }
};

Status linear_task(const RowsTask<float>&);
Status linear_task(const RowsTask<double>&);
Status network_task(const RowsTask<float>&);
Status network_task(const RowsTask<double>&);

}  // namespace admm
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
