// Rounds of optimistic_step in step_local.hpp for mini-batches of CSR rows: gradients and duals are
// lists of the entries that are not zero, and only the parameters in them move.
#include <cstdlib>

#include "../core/blocks.hpp"
#include "cpu_solve_rows.hpp"
#include "step_local.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

using admm::RoundSums;
using admm::sum_strands;

constexpr std::int64_t ahead = 16;  // entries whose parameters are asked for before they are due
constexpr int digit_bits = 11;
constexpr std::int64_t digits = 1 << digit_bits;

// Products of a slope and an entry of its row; the key is the parameter and, below it, the task.
template <class T>
struct Products {
    std::uint64_t* keys[2] = {nullptr, nullptr};
    T* values[2] = {nullptr, nullptr};
    std::int64_t count = 0;
    int task_bits, key_bits;

    HL_MEMBER Products(std::int64_t capacity, std::int64_t dim, std::int64_t num_tasks)
        : task_bits(bits_of(num_tasks - 1)), key_bits(task_bits + bits_of(dim - 1)) {
        const std::size_t size = static_cast<std::size_t>(capacity > 0 ? capacity : 1);
        for (int side = 0; side < 2; ++side) {
            keys[side] = static_cast<std::uint64_t*>(std::malloc(size * sizeof(std::uint64_t)));
            values[side] = static_cast<T*>(std::malloc(size * sizeof(T)));
        }
    }
    Products(const Products&) = delete;
    Products& operator=(const Products&) = delete;
    HL_MEMBER ~Products() {
        for (int side = 0; side < 2; ++side) {
            std::free(keys[side]);
            std::free(values[side]);
        }
    }

    HL_MEMBER bool complete() const {
        return keys[0] != nullptr && keys[1] != nullptr && values[0] != nullptr &&
               values[1] != nullptr;
    }

    HL_MEMBER void add(std::int64_t parameter, std::int64_t task, T value) {
        keys[0][count] =
            static_cast<std::uint64_t>(parameter) << task_bits | static_cast<std::uint64_t>(task);
        values[0][count++] = value;
    }

    HL_MEMBER std::int64_t parameter(std::int64_t e) const {
        return static_cast<std::int64_t>(keys[0][e] >> task_bits);
    }
    HL_MEMBER std::int64_t task(std::int64_t e) const {
        return static_cast<std::int64_t>(keys[0][e] & ((std::uint64_t(1) << task_bits) - 1));
    }

    // By digits from the lowest on, which keeps the order of rows where keys are equal.
    HL_MEMBER void sort() {
        for (int shift = 0; shift < key_bits; shift += digit_bits) {
            std::int64_t begin[digits] = {};
            for (std::int64_t e = 0; e < count; ++e)
                ++begin[(keys[0][e] >> shift) % digits];
            std::int64_t total = 0;
            for (std::int64_t digit = 0; digit < digits; ++digit) {
                const std::int64_t own = begin[digit];
                begin[digit] = total;
                total += own;
            }
            for (std::int64_t e = 0; e < count; ++e) {
                const std::int64_t to = begin[(keys[0][e] >> shift) % digits]++;
                keys[1][to] = keys[0][e];
                values[1][to] = values[0][e];
            }
            std::uint64_t* const sorted_keys = keys[1];
            T* const sorted_values = values[1];
            keys[1] = keys[0];
            values[1] = values[0];
            keys[0] = sorted_keys;
            values[0] = sorted_values;
        }
    }

  private:
    static HL_MEMBER int bits_of(std::int64_t largest) {
        int bits = 0;
        while (largest >> bits != 0)
            ++bits;
        return bits;
    }
};

// visit(task, position in the task, matrix row) for the rows of all tasks.
template <class T, class Visit>
HL_INLINE void for_rows(const AdmmGradient<T>& call, const Visit& visit) {
    std::int64_t ids[admm::chunk_rows];
    for (std::int64_t index = 0; index < call.num_tasks; ++index) {
        const std::int64_t* task = call.tasks + 3 * index;
        const admm::RowsTask<T> rows = {
            call, call.clients[task[0]], task[0], task[1], task[2], nullptr, nullptr, nullptr};
        for (std::int64_t first = task[1]; first < task[2]; first += admm::chunk_rows) {
            const std::int64_t count = smaller(admm::chunk_rows, task[2] - first);
            admm::find_rows(rows, first, count, ids);
            for (std::int64_t j = 0; j < count; ++j)
                visit(index, first - task[1] + j, ids[j]);
        }
    }
}

template <class T>
HL_INLINE std::int64_t count_products(const AdmmGradient<T>& call) {
    std::int64_t count = 0;
    for_rows(call, [&](std::int64_t task, std::int64_t, std::int64_t row) {
        const AdmmRows<T>& client = call.clients[call.tasks[3 * task]];
        count += client.indptr[row + 1] - client.indptr[row] + (call.model.intercept ? 1 : 0);
    });
    return count;
}

template <class T>
HL_INLINE void write_products(const AdmmGradient<T>& call, Products<T>& products) {
    for_rows(call, [&](std::int64_t task, std::int64_t position, std::int64_t row) {
        const AdmmRows<T>& client = call.clients[call.tasks[3 * task]];
        const T slope = call.partials[task * call.slope_stride + position];
        for (std::int64_t k = client.indptr[row]; k < client.indptr[row + 1]; ++k) {
            const T product = client.values == nullptr ? slope : client.values[k] * slope;
            products.add(client.indices[k], task, product);
        }
        if (call.model.intercept) products.add(call.model.layers[0], task, slope);
    });
}

// What clients add up at one parameter.
struct Moves {
    double step;      // sum alpha (2 g + pi)
    double dual;      // sum alpha pi'
    double gradient;  // sum alpha g
    double moved;     // sum alpha |w_i - w|^2
    double point;     // sum alpha (|w_i|^2 - |w|^2)
};

// Goes through the products of this round and the duals of the last one, parameter by parameter.
template <class T>
struct Walk {
    const AdmmGradient<T>& call;
    const AdmmRound<T>& round;
    const AdmmDuals<T>& duals;
    const Products<T>& products;
    double weight;
    std::int64_t product = 0, old = 0, slice = -1;
    RoundSums sums = {};

    static constexpr std::int64_t none = INT64_MAX;

    HL_MEMBER std::int64_t product_client(std::int64_t parameter) const {
        if (product >= products.count || products.parameter(product) != parameter) return none;
        return call.tasks[3 * products.task(product)];
    }

    HL_MEMBER std::int64_t old_client(std::int64_t parameter) const {
        const bool here = old < duals.before.count && duals.before.parameters[old] == parameter;
        return here ? duals.before.clients[old] : none;
    }

    HL_MEMBER std::int64_t next_parameter() const {
        const std::int64_t a = product < products.count ? products.parameter(product) : none;
        const std::int64_t b = old < duals.before.count ? duals.before.parameters[old] : none;
        return smaller(a, b);
    }

    // The mean gradient of a client: sums over the rows of a task, added task after task.
    HL_MEMBER T take_gradient(std::int64_t parameter, std::int64_t client) {
        const std::uint64_t* const keys = products.keys[0];
        const T* const values = products.values[0];
        double total = 0;
        do {
            const std::uint64_t key = keys[product];
            T part = 0;
            for (; product < products.count && keys[product] == key; ++product)
                part += values[product];
            total += static_cast<double>(part);
        } while (product_client(parameter) == client);
        return static_cast<T>(round.scale[client] * total);
    }

    HL_MEMBER void move_client(std::int64_t parameter, std::int64_t client, T g, T pi,
                               Moves& moves) const {
        const double alpha = round.alpha[client];
        const T w = round.w[parameter];
        const T d = admm::optimistic_direction(g, pi, static_cast<T>(round.sigma[client]));
        const double apart = static_cast<double>(d), before = static_cast<double>(w);
        const double local = static_cast<double>(static_cast<T>(w - d));
        moves.step += alpha * admm::optimistic_step(g, pi);
        moves.dual += alpha * static_cast<double>(admm::optimistic_dual(g));
        moves.gradient += alpha * static_cast<double>(g);
        moves.moved += alpha * (apart * apart);
        moves.point += alpha * (local * local - before * before);
    }

    HL_MEMBER void keep_dual(std::int64_t parameter, std::int64_t client, T dual) {
        AdmmDualList<T>& now = duals.now;
        now.parameters[now.count] = parameter;
        now.clients[now.count] = static_cast<std::int32_t>(client);
        now.values[now.count++] = dual;
    }

    // Parameters lie apart: waiting for each in turn took half of the time.
    HL_MEMBER void fetch() const {
        if (product + ahead < products.count)
            __builtin_prefetch(round.w + products.parameter(product + ahead), 1);
        if (old + ahead < duals.before.count)
            __builtin_prefetch(round.w + duals.before.parameters[old + ahead], 1);
    }

    HL_MEMBER void move(std::int64_t parameter) {
        fetch();
        Moves moves = {};
        for (;;) {
            const std::int64_t fresh = product_client(parameter), known = old_client(parameter);
            const std::int64_t client = smaller(fresh, known);
            if (client == none) break;
            const T g = fresh == client ? take_gradient(parameter, client) : T(0);
            const T pi = known == client ? duals.before.values[old++] : T(0);
            move_client(parameter, client, g, pi, moves);
            if (fresh == client) keep_dual(parameter, client, admm::optimistic_dual(g));
        }
        const double before = static_cast<double>(round.w[parameter]);
        round.w[parameter] = static_cast<T>(before - moves.step / weight);
        const double now = static_cast<double>(round.w[parameter]);
        const std::int64_t s = parameter % sum_strands;
        sums.strand[0][s] += moves.moved;
        sums.strand[1][s] += (now - before) * (now - before);
        sums.strand[2][s] += now * now;
        sums.strand[3][s] += moves.dual * moves.dual;
        sums.strand[4][s] += moves.gradient * moves.gradient;
        sums.strand[5][s] += moves.point;
    }

    HL_MEMBER void close_slice() {
        for (int which = 0; slice >= 0 && which < admm_num_sums; ++which)
            round.sums[slice * admm_num_sums + which] = sums.fold(which);
        sums = {};
    }

    HL_MEMBER void run() {
        const std::int64_t slices = (round.dim + admm_slice - 1) / admm_slice;
        for (std::int64_t k = 0; k < slices * admm_num_sums; ++k)
            round.sums[k] = 0;
        for (std::int64_t parameter; (parameter = next_parameter()) != none;) {
            if (parameter / admm_slice != slice) {
                close_slice();
                slice = parameter / admm_slice;
            }
            move(parameter);
        }
        close_slice();
    }
};

template <class T>
HL_INLINE Status run(const AdmmGradient<T>& call, const AdmmRound<T>& round,
                     const AdmmDuals<T>& duals) {
    Products<T> products(count_products(call), round.dim, call.num_tasks);
    if (!products.complete()) return Status::out_of_memory("admm_optimistic_round");
    write_products(call, products);
    products.sort();
    double weight = 0;
    for (std::int64_t client = 0; client < round.num_clients; ++client)
        weight += round.alpha[client] * round.sigma[client];
    duals.now.count = 0;
    Walk<T> walk = {call, round, duals, products, weight};
    walk.run();
    return Status::success();
}

}  // namespace

Status admm_optimistic_round(const AdmmGradient<float>& call, const AdmmRound<float>& round,
                             const AdmmDuals<float>& duals) {
    return run(call, round, duals);
}
Status admm_optimistic_round(const AdmmGradient<double>& call, const AdmmRound<double>& round,
                             const AdmmDuals<double>& duals) {
    return run(call, round, duals);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
