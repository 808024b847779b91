// Rounds over the parameters that a mini-batch of CSR rows reaches, where the others stay as they
// are: see optimistic_dual in step_local.hpp.
#include "../core/blocks.hpp"
#include "../core/pool.hpp"
#include "cpu_solve_rows.hpp"
#include "step_local.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr std::int64_t block = 256;
constexpr std::int64_t strands = 8;
constexpr std::int64_t worth_sharing = 1 << 11;  // touched parameters; waking threads takes as long
constexpr std::int64_t ahead = 16;  // parameters whose memory is asked for before they are due

// Lists parameters of this round: `now` those of the batch, `all` those of the last one too.
struct Lists {
    const AdmmTouched& touched;

    HL_MEMBER void add(std::int64_t parameter) const {
        std::int64_t& seen = touched.seen[parameter];
        if (seen == touched.stamp) return;
        if (seen != touched.stamp - 1) touched.all[touched.counts[1]++] = parameter;
        seen = touched.stamp;
        touched.now[touched.counts[0]++] = parameter;
    }
};

template <class T>
Status list_touched(const AdmmGradient<T>& call, const AdmmTouched& touched) {
    const Lists lists = {touched};
    touched.counts[0] = 0;
    touched.counts[1] = touched.num_before;
    for (std::int64_t p = 0; p < touched.num_before; ++p)
        touched.all[p] = touched.before[p];
    std::int64_t ids[admm::chunk_rows];
    for (std::int64_t index = 0; index < call.num_tasks; ++index) {
        const std::int64_t* task = call.tasks + 3 * index;
        const AdmmRows<T>& client = call.clients[task[0]];
        const admm::RowsTask<T> rows = {call,    client,  task[0], task[1],
                                        task[2], nullptr, nullptr, nullptr};
        for (std::int64_t first = task[1]; first < task[2]; first += admm::chunk_rows) {
            const std::int64_t count = smaller(admm::chunk_rows, task[2] - first);
            admm::find_rows(rows, first, count, ids);
            for (std::int64_t j = 0; j < count; ++j) {
                for (std::int64_t k = client.indptr[ids[j]]; k < client.indptr[ids[j] + 1]; ++k)
                    lists.add(client.indices[k]);
            }
        }
        if (stop_requested()) return Status::interrupted("admm_touched");
    }
    for (std::int64_t k = call.model.layers[0]; k < call.model.dim; ++k)
        lists.add(k);  // the intercept
    return Status::success();
}

struct Sums {
    double strand[admm_num_sums][strands];

    HL_MEMBER void add(int which, std::int64_t parameter, double weight, double x) {
        strand[which][parameter % strands] += weight * (x * x);
    }

    HL_MEMBER double fold(int which) const {
        const double* s = strand[which];
        return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
    }
};

// Parameters of one block of 256, in rising order.
struct Places {
    const std::int64_t* parameters;
    std::int64_t count;
    double step[block];      // sum alpha (2 g + pi)
    double dual[block];      // sum alpha pi'
    double gradient[block];  // sum alpha g
};

// The mean gradient of a client at one parameter; the sums of its tasks become zero again.
template <class T>
HL_INLINE T take_gradient(const AdmmRound<T>& call, T* partials, std::int64_t client,
                          std::int64_t first, std::int64_t last, std::int64_t parameter) {
    double sum = 0;
    for (std::int64_t task = first; task < last; ++task) {
        T& part = partials[task * call.dim + parameter];
        sum += static_cast<double>(part);
        part = 0;
    }
    return static_cast<T>(call.scale[client] * sum);
}

template <class T>
HL_INLINE void run_block(const AdmmRound<T>& call, T* partials, double weight, Places& b,
                         Sums& sums) {
    for (std::int64_t j = 0; j < b.count; ++j)
        b.step[j] = b.dual[j] = b.gradient[j] = 0;
    std::int64_t task = 0;
    for (std::int64_t client = 0; client < call.num_clients; ++client) {
        const std::int64_t first = task;
        while (task < call.num_tasks && call.tasks[3 * task] == client)
            ++task;
        const double alpha = call.alpha[client];
        const T sigma = static_cast<T>(call.sigma[client]);
        for (std::int64_t j = 0; j < b.count; ++j) {
            const std::int64_t k = b.parameters[j];
            const T g = take_gradient(call, partials, client, first, task, k);
            T& dual = call.dual[client * call.dim + k];
            const T d = admm::optimistic_direction(g, dual, sigma);
            b.step[j] += alpha * admm::optimistic_step(g, dual);
            dual = admm::optimistic_dual(g);
            b.dual[j] += alpha * static_cast<double>(dual);
            b.gradient[j] += alpha * static_cast<double>(g);
            sums.add(0, k, alpha, static_cast<double>(d));
            sums.add(5, k, alpha, static_cast<double>(static_cast<T>(call.w[k] - d)));
        }
    }
    for (std::int64_t j = 0; j < b.count; ++j) {
        const std::int64_t k = b.parameters[j];
        const double old = static_cast<double>(call.w[k]);
        call.w[k] = static_cast<T>(old - b.step[j] / weight);
        const double now = static_cast<double>(call.w[k]);
        sums.add(1, k, 1.0, now - old);
        sums.add(2, k, 1.0, now);
        sums.add(3, k, 1.0, b.dual[j]);
        sums.add(4, k, 1.0, b.gradient[j]);
    }
}

template <class T>
struct TouchedRound {
    const AdmmRound<T>& call;
    T* partials;
    const std::int64_t* parameters;  // in rising order
    std::int64_t count;
    double weight;

    // The first position whose parameter is at least `bound`.
    HL_MEMBER std::int64_t position(std::int64_t bound) const {
        std::int64_t low = 0, high = count;
        while (low < high) {
            const std::int64_t middle = low + (high - low) / 2;
            if (parameters[middle] < bound) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return low;
    }
};

// Parameters lie apart, and without this each would wait for a row of memory of every client.
template <class T>
HL_INLINE void fetch(const TouchedRound<T>& round, std::int64_t position) {
    if (position >= round.count) return;
    const AdmmRound<T>& call = round.call;
    const std::int64_t k = round.parameters[position];
    __builtin_prefetch(call.w + k, 1);
    for (std::int64_t client = 0; client < call.num_clients; ++client)
        __builtin_prefetch(call.dual + client * call.dim + k, 1);
    for (std::int64_t task = 0; task < call.num_tasks; ++task)
        __builtin_prefetch(round.partials + task * call.dim + k, 1);
}

template <class T>
Status run_slice(void* context, std::int64_t index) {
    const auto& round = *static_cast<const TouchedRound<T>*>(context);
    Sums sums = {};
    Places places;
    const std::int64_t end = round.position((index + 1) * admm_slice);
    for (std::int64_t p = round.position(index * admm_slice); p < end; p += places.count) {
        places.parameters = round.parameters + p;
        places.count = 1;
        while (p + places.count < end &&
               places.parameters[places.count] / block == places.parameters[0] / block)
            ++places.count;
        for (std::int64_t j = 0; j < places.count; ++j)
            fetch(round, p + j + ahead);
        run_block(round.call, round.partials, round.weight, places, sums);
    }
    for (int s = 0; s < admm_num_sums; ++s)
        round.call.sums[index * admm_num_sums + s] = sums.fold(s);
    return Status::success();
}

template <class T>
HL_INLINE Status run(const AdmmRound<T>& call, T* partials, const std::int64_t* parameters,
                     std::int64_t count) {
    TouchedRound<T> round = {call, partials, parameters, count, 0};
    for (std::int64_t client = 0; client < call.num_clients; ++client)
        round.weight += call.alpha[client] * call.sigma[client];
    const std::int64_t slices = (call.dim + admm_slice - 1) / admm_slice;
    const int num_threads = count < worth_sharing ? 1 : call.num_threads;
    return parallel_for(slices, num_threads, run_slice<T>, &round);
}

}  // namespace

Status admm_touched(const AdmmGradient<float>& call, const AdmmTouched& touched) {
    return list_touched(call, touched);
}
Status admm_touched(const AdmmGradient<double>& call, const AdmmTouched& touched) {
    return list_touched(call, touched);
}
Status admm_round_touched(const AdmmRound<float>& call, float* partials,
                          const std::int64_t* parameters, std::int64_t count) {
    return run(call, partials, parameters, count);
}
Status admm_round_touched(const AdmmRound<double>& call, double* partials,
                          const std::int64_t* parameters, std::int64_t count) {
    return run(call, partials, parameters, count);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
