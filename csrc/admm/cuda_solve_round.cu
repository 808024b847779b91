// The rest of a round on a GPU, with the sums of cpu_solve_round.cpp in the same order: a block of
// threads for each slice of parameters, a thread for each of 256 at a time.
#include "../core/cuda_device.cuh"
#include "cuda_solve.hpp"
#include "step_local.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int block_size = 256;
constexpr int strands = 8;
constexpr int kinds = 4;  // rows of terms that are squared and added at a time

// Shared memory of a block.
struct Terms {
    double values[kinds][block_size];
    double sums[admm_num_sums][strands];
};

// Threads 0 to 8 count - 1 add term(x) of a row of terms each, parameter k to strand k mod 8.
template <class Term>
HL_DEVICE void add_terms(Terms& terms, int count, const int* which, std::int64_t size,
                         const Term& term) {
    const int thread = static_cast<int>(threadIdx.x);
    __syncthreads();
    if (thread < strands * count) {
        const double* x = terms.values[thread / strands];
        double sum = terms.sums[which[thread / strands]][thread % strands];
        for (std::int64_t k = thread % strands; k < size; k += strands)
            sum += term(x[k]);
        terms.sums[which[thread / strands]][thread % strands] = sum;
    }
    __syncthreads();
}

struct WeighedSquare {
    double weight;
    HL_DEVICE_MEMBER double operator()(double x) const { return weight * (x * x); }
};

HL_DEVICE void add_squares(Terms& terms, int count, const int* which, double weight,
                           std::int64_t size) {
    add_terms(terms, count, which, size, WeighedSquare{weight});
}

struct Itself {
    HL_DEVICE_MEMBER double operator()(double x) const { return x; }
};

// Leaves the terms of the sums over parameters, this thread's own.
HL_DEVICE void note_parameter(Terms& terms, double old, double now, double dual, double gradient) {
    terms.values[0][threadIdx.x] = now - old;
    terms.values[1][threadIdx.x] = now;
    terms.values[2][threadIdx.x] = dual;
    terms.values[3][threadIdx.x] = gradient;
}

// The mean gradient of a client at one parameter.
template <class T>
HL_DEVICE T mean_gradient(const AdmmRound<T>& call, std::int64_t client, std::int64_t first,
                          std::int64_t last, std::int64_t k) {
    double sum = 0;
    for (std::int64_t task = first; task < last; ++task)
        sum += static_cast<double>(call.partials[task * call.dim + k]);
    return static_cast<T>(call.scale[client] * sum);
}

// Moves one parameter of a client; returns w_i.
template <AdmmScheme scheme, class T>
HL_DEVICE T step_client(const AdmmRound<T>& call, std::int64_t client, std::int64_t k, T g) {
    const admm::LocalRates<T> rates = {static_cast<T>(call.sigma[client]),
                                       static_cast<T>(call.rho[client]),
                                       static_cast<T>(call.beta),
                                       static_cast<T>(1 - call.beta),
                                       static_cast<T>(call.correction),
                                       static_cast<T>(call.eps),
                                       static_cast<T>(call.cap)};
    const std::int64_t at = client * call.dim + k;
    T v = scheme == AdmmScheme::identity ? T(0) : call.second[at];
    const T d = admm::local_direction<scheme>(T(g + call.dual[at]), v, rates);
    if (scheme != AdmmScheme::identity && scheme != AdmmScheme::diag) call.second[at] = v;
    call.dual[at] = call.dual[at] - rates.sigma * d;
    T centre = call.w[k];
    if (call.relaxation != 1.0) {
        const T relax = static_cast<T>(call.relaxation), rest = static_cast<T>(1 - call.relaxation);
        centre = relax * call.w[k] + rest * call.local[at];
    }
    const T local = centre - d;
    if (call.local != nullptr) call.local[at] = local;
    return local;
}

template <AdmmScheme scheme, class T>
HL_DEVICE void run_block(const AdmmRound<T>& call, double weight, std::int64_t first,
                         std::int64_t size, Terms& terms) {
    const std::int64_t own = threadIdx.x, k = first + own;
    const bool inside = own < size;
    double total = 0, dual = 0, gradient = 0;
    std::int64_t task = 0;
    for (std::int64_t client = 0; client < call.num_clients; ++client) {
        const std::int64_t begin = task;
        while (task < call.num_tasks && call.tasks[3 * task] == client)
            ++task;
        const double alpha = call.alpha[client];
        if (inside) {
            T local;
            if (call.active == nullptr || call.active[client] != 0) {
                const T g = mean_gradient(call, client, begin, task, k);
                gradient += alpha * static_cast<double>(g);
                if (call.gradient != nullptr) call.gradient[client * call.dim + k] = g;
                local = step_client<scheme>(call, client, k, g);
            } else {
                local = call.local[client * call.dim + k];
            }
            const double point = static_cast<double>(local);
            const double pi = static_cast<double>(call.dual[client * call.dim + k]);
            total += alpha * (call.sigma[client] * point + pi);
            dual += alpha * pi;
            terms.values[0][own] = point - static_cast<double>(call.w[k]);
            terms.values[1][own] = point;
        }
        const int which[2] = {0, 5};
        add_squares(terms, 2, which, alpha, size);
    }
    if (inside) {
        const double l2 = k < call.penalised ? call.l2 : 0.0;
        const double old = static_cast<double>(call.w[k]);
        gradient += l2 * old;
        call.w[k] = static_cast<T>(total / (weight + l2));
        note_parameter(terms, old, static_cast<double>(call.w[k]), dual, gradient);
    }
    const int which[4] = {1, 2, 3, 4};
    add_squares(terms, 4, which, 1.0, size);
}

// The block of a round of optimistic_step; the clients' sums of squares are added up first.
template <class T>
HL_DEVICE void run_optimistic_block(const AdmmRound<T>& call, double weight, std::int64_t first,
                                    std::int64_t size, Terms& terms) {
    const std::int64_t own = threadIdx.x, k = first + own;
    const bool inside = own < size;
    double total = 0, dual = 0, gradient = 0, moved = 0, points = 0;
    std::int64_t task = 0;
    for (std::int64_t client = 0; inside && client < call.num_clients; ++client) {
        const std::int64_t begin = task;
        while (task < call.num_tasks && call.tasks[3 * task] == client)
            ++task;
        const double alpha = call.alpha[client];
        const T g = mean_gradient(call, client, begin, task, k);
        T& pi = call.dual[client * call.dim + k];
        const T d = admm::optimistic_direction(g, pi, static_cast<T>(call.sigma[client]));
        const double apart = static_cast<double>(d);
        const double point = static_cast<double>(static_cast<T>(call.w[k] - d));
        total += alpha * admm::optimistic_step(g, pi);
        pi = admm::optimistic_dual(g);
        dual += alpha * static_cast<double>(pi);
        gradient += alpha * static_cast<double>(g);
        moved += alpha * (apart * apart);
        points += alpha * (point * point);
    }
    terms.values[0][own] = moved;
    terms.values[1][own] = points;
    const int local[2] = {0, 5};
    add_terms(terms, 2, local, size, Itself{});
    if (inside) {
        const double old = static_cast<double>(call.w[k]);
        call.w[k] = static_cast<T>(old - total / weight);
        note_parameter(terms, old, static_cast<double>(call.w[k]), dual, gradient);
    }
    const int which[4] = {1, 2, 3, 4};
    add_squares(terms, 4, which, 1.0, size);
}

template <AdmmScheme scheme, class T>
__global__ void __launch_bounds__(block_size) round(AdmmRound<T> call) {
    HL_DYNAMIC_SHARED(memory);
    Terms& terms = *reinterpret_cast<Terms*>(memory);
    const int thread = static_cast<int>(threadIdx.x);
    double weight = 0;
    for (std::int64_t client = 0; client < call.num_clients; ++client)
        weight += call.alpha[client] * call.sigma[client];
    const std::int64_t slices = (call.dim + admm_slice - 1) / admm_slice;
    for (std::int64_t slice = blockIdx.x; slice < slices; slice += gridDim.x) {
        if (thread < admm_num_sums * strands) terms.sums[thread / strands][thread % strands] = 0;
        const std::int64_t begin = slice * admm_slice;
        const std::int64_t end = begin + admm_slice < call.dim ? begin + admm_slice : call.dim;
        for (std::int64_t first = begin; first < end; first += block_size) {
            const std::int64_t size = end - first < block_size ? end - first : block_size;
            if (call.optimistic) {
                run_optimistic_block(call, weight, first, size, terms);
            } else {
                run_block<scheme>(call, weight, first, size, terms);
            }
        }
        if (thread < admm_num_sums) {
            const double* s = terms.sums[thread];
            call.sums[slice * admm_num_sums + thread] =
                ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
        }
        __syncthreads();
    }
}

template <AdmmScheme scheme, class T>
Status start(const AdmmRound<T>& job, const CudaCall& call) {
    const std::int64_t slices = ceil_div(job.dim, admm_slice);
    return launch("admm_round", round<scheme, T>,
                  {slices, block_size, static_cast<std::int64_t>(sizeof(Terms))}, call, job);
}

template <class T>
Status run(const AdmmRound<T>& job, const CudaCall& call) {
    switch (job.scheme) {
        case AdmmScheme::identity:
            return start<AdmmScheme::identity>(job, call);
        case AdmmScheme::diag:
            return start<AdmmScheme::diag>(job, call);
        case AdmmScheme::adagrad:
            return start<AdmmScheme::adagrad>(job, call);
        case AdmmScheme::rmsprop:
            return start<AdmmScheme::rmsprop>(job, call);
        case AdmmScheme::adam:
            return start<AdmmScheme::adam>(job, call);
    }
    return Status::invalid_argument("admm_round: no such scheme");
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

hl::Status hl_cuda_admm_round_f32(const hl::AdmmRound<float>* job, const hl::CudaCall* call) {
    return hl::run(*job, *call);
}
hl::Status hl_cuda_admm_round_f64(const hl::AdmmRound<double>* job, const hl::CudaCall* call) {
    return hl::run(*job, *call);
}
