// The rest of a round: local steps, duals, and the next global point, a slice of parameters at a
// time and all clients within it.
//
// With d = (sigma I + rho Q)^{-1} (g + pi): w_i = w - d, pi' = pi - sigma d, and the next global
// step needs only sum alpha (sigma w_i + pi'), so that W is not stored. The sums of each slice are
//     0  sum alpha |w_i - w|^2      1  |w' - w|^2           2  |w'|^2
//     3  |sum alpha pi'|^2          4  |sum alpha g + l2 w|^2   5  sum alpha |w_i|^2
#include "../core/interrupt.hpp"
#include "../core/pool.hpp"
#include "cpu_solve.hpp"
#include "step_local.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr std::int64_t block = 256;  // parameters whose sums stay in the first-level cache

using admm::RoundSums;
using admm::sum_strands;

// Adds weight x^2 to a sum, parameter k to strand k mod 8.
HL_INLINE void add_squares(double* HL_RESTRICT strand, double weight, const double* HL_RESTRICT x,
                           std::int64_t count) {
    std::int64_t k = 0;
    for (; k + sum_strands <= count; k += sum_strands) {
        for (std::int64_t s = 0; s < sum_strands; ++s)
            strand[s] += weight * (x[k + s] * x[k + s]);
    }
    for (; k < count; ++k)
        strand[k % sum_strands] += weight * (x[k] * x[k]);
}

template <class T>
struct Block {
    std::int64_t first, count;
    double total[block];     // sum alpha (sigma w_i + pi)
    double dual[block];      // sum alpha pi
    double gradient[block];  // sum alpha g
    double row[block];
    double local[block];
    T g[block];
    RoundSums sums;
};

// The mean gradient of a client, from the sums of its tasks.
template <class T>
HL_INLINE void mean_gradient(const AdmmRound<T>& call, std::int64_t client, std::int64_t& task,
                             Block<T>& b) {
    for (std::int64_t k = 0; k < b.count; ++k)
        b.row[k] = 0;
    for (; task < call.num_tasks && call.tasks[3 * task] == client; ++task) {
        const T* HL_RESTRICT part = call.partials + task * call.dim + b.first;
        for (std::int64_t k = 0; k < b.count; ++k)
            b.row[k] += static_cast<double>(part[k]);
    }
    const double scale = call.scale[client], alpha = call.alpha[client];
    for (std::int64_t k = 0; k < b.count; ++k) {
        b.g[k] = static_cast<T>(scale * b.row[k]);
        b.gradient[k] += alpha * static_cast<double>(b.g[k]);
    }
    if (call.gradient == nullptr) return;
    for (std::int64_t k = 0; k < b.count; ++k)
        call.gradient[client * call.dim + b.first + k] = b.g[k];
}

template <AdmmScheme scheme, class T>
HL_INLINE void step_client(const AdmmRound<T>& call, std::int64_t client, Block<T>& b) {
    const std::int64_t at = client * call.dim + b.first;
    const admm::LocalRates<T> rates = {static_cast<T>(call.sigma[client]),
                                       static_cast<T>(call.rho[client]),
                                       static_cast<T>(call.beta),
                                       static_cast<T>(1 - call.beta),
                                       static_cast<T>(call.correction),
                                       static_cast<T>(call.eps),
                                       static_cast<T>(call.cap)};
    const T relax = static_cast<T>(call.relaxation), rest = static_cast<T>(1 - call.relaxation);
    const T* HL_RESTRICT w = call.w + b.first;
    T* HL_RESTRICT dual = call.dual + at;
    T* HL_RESTRICT second = scheme == AdmmScheme::identity ? nullptr : call.second + at;
    T* HL_RESTRICT local = call.local == nullptr ? nullptr : call.local + at;
    for (std::int64_t k = 0; k < b.count; ++k) {
        T v = scheme == AdmmScheme::identity ? T(0) : second[k];
        const T d = admm::local_direction<scheme>(T(b.g[k] + dual[k]), v, rates);
        if constexpr (scheme != AdmmScheme::identity && scheme != AdmmScheme::diag) second[k] = v;
        dual[k] = dual[k] - rates.sigma * d;
        b.row[k] = static_cast<double>(d);
    }
    for (std::int64_t k = 0; k < b.count; ++k)
        b.local[k] = static_cast<double>(static_cast<T>(w[k] - static_cast<T>(b.row[k])));
    if (local == nullptr) return;
    if (call.relaxation != 1.0) {
        for (std::int64_t k = 0; k < b.count; ++k)
            b.local[k] = static_cast<double>(
                static_cast<T>((relax * w[k] + rest * local[k]) - static_cast<T>(b.row[k])));
    }
    for (std::int64_t k = 0; k < b.count; ++k)
        local[k] = static_cast<T>(b.local[k]);
}

template <class T>
HL_INLINE void recall_client(const AdmmRound<T>& call, std::int64_t client, Block<T>& b) {
    const T* HL_RESTRICT local = call.local + client * call.dim + b.first;
    for (std::int64_t k = 0; k < b.count; ++k)
        b.local[k] = static_cast<double>(local[k]);
}

template <class T>
HL_INLINE void add_client(const AdmmRound<T>& call, std::int64_t client, Block<T>& b) {
    const double alpha = call.alpha[client], sigma = call.sigma[client];
    const T* HL_RESTRICT dual = call.dual + client * call.dim + b.first;
    const T* HL_RESTRICT w = call.w + b.first;
    for (std::int64_t k = 0; k < b.count; ++k) {
        const double pi = static_cast<double>(dual[k]);
        b.total[k] += alpha * (sigma * b.local[k] + pi);
        b.dual[k] += alpha * pi;
        b.row[k] = b.local[k] - static_cast<double>(w[k]);
    }
    add_squares(b.sums.strand[0], alpha, b.row, b.count);
    add_squares(b.sums.strand[5], alpha, b.local, b.count);
}

template <class T>
HL_INLINE void finish_block(const AdmmRound<T>& call, double weight, Block<T>& b) {
    T* HL_RESTRICT w = call.w + b.first;
    std::int64_t inside = call.penalised - b.first;  // parameters of the block with a penalty
    inside = inside < 0 ? 0 : (inside > b.count ? b.count : inside);
    for (std::int64_t k = 0; k < b.count; ++k) {
        const double l2 = k < inside ? call.l2 : 0.0;
        const double old = static_cast<double>(w[k]);
        b.gradient[k] += l2 * old;
        w[k] = static_cast<T>(b.total[k] / (weight + l2));
        b.local[k] = static_cast<double>(w[k]);
        b.row[k] = b.local[k] - old;
    }
    add_squares(b.sums.strand[1], 1.0, b.row, b.count);
    add_squares(b.sums.strand[2], 1.0, b.local, b.count);
    add_squares(b.sums.strand[3], 1.0, b.dual, b.count);
    add_squares(b.sums.strand[4], 1.0, b.gradient, b.count);
}

template <AdmmScheme scheme, class T>
HL_INLINE void run_block(const AdmmRound<T>& call, double weight, Block<T>& b) {
    for (std::int64_t k = 0; k < b.count; ++k)
        b.total[k] = b.dual[k] = b.gradient[k] = 0;
    std::int64_t task = 0;
    for (std::int64_t client = 0; client < call.num_clients; ++client) {
        if (call.active == nullptr || call.active[client] != 0) {
            mean_gradient(call, client, task, b);
            step_client<scheme>(call, client, b);
        } else {
            while (task < call.num_tasks && call.tasks[3 * task] == client)
                ++task;
            recall_client(call, client, b);
        }
        add_client(call, client, b);
    }
    finish_block(call, weight, b);
}

template <AdmmScheme scheme, class T>
Status run_slice(void* context, std::int64_t index) {
    const auto& call = *static_cast<const AdmmRound<T>*>(context);
    double weight = 0;
    for (std::int64_t client = 0; client < call.num_clients; ++client)
        weight += call.alpha[client] * call.sigma[client];
    Block<T> b;
    b.sums = RoundSums{};
    const std::int64_t begin = index * admm_slice;
    const std::int64_t end = begin + admm_slice < call.dim ? begin + admm_slice : call.dim;
    for (std::int64_t first = begin; first < end; first += block) {
        b.first = first;
        b.count = end - first < block ? end - first : block;
        run_block<scheme>(call, weight, b);
    }
    for (int s = 0; s < admm_num_sums; ++s)
        call.sums[index * admm_num_sums + s] = b.sums.fold(s);
    return Status::success();
}

template <class T>
HL_INLINE Status run(const AdmmRound<T>& call) {
    constexpr Task tasks[] = {run_slice<AdmmScheme::identity, T>, run_slice<AdmmScheme::diag, T>,
                              run_slice<AdmmScheme::adagrad, T>, run_slice<AdmmScheme::rmsprop, T>,
                              run_slice<AdmmScheme::adam, T>};
    const std::int64_t slices = (call.dim + admm_slice - 1) / admm_slice;
    void* const context = const_cast<void*>(static_cast<const void*>(&call));
    return parallel_for(slices, call.num_threads, tasks[static_cast<int>(call.scheme)], context);
}

}  // namespace

Status admm_round(const AdmmRound<float>& call) {
    return run(call);
}
Status admm_round(const AdmmRound<double>& call) {
    return run(call);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
