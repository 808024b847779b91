// Drivers of the step kernels: one pass over all state, in blocks whose sums stay in the
// first-level cache. Clients are taken in order, so that all at once and one by one give the same
// bits.
#include "../core/interrupt.hpp"
#include "../core/pool.hpp"
#include "cpu_step_state.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

// Sums of more clients than this are taken in parts, against the growth of rounding errors.
constexpr std::int64_t clients_per_part = 64;

// Calls body(V{}, j) for packs from 0 on, and for single elements in the rest.
template <class T, class Body>
HL_INLINE void over(std::int64_t count, const Body& body) {
    using V = typename PackOf<T>::Type;
    constexpr int lanes = LaneTraits<V>::lanes;
    std::int64_t j = 0;
    for (; j + lanes <= count; j += lanes)
        body(V{}, j);
    for (; j < count; ++j)
        body(T{}, j);
}

// The gradients of a block in the precision of the state: where they are, or converted in `buffer`.
template <class T>
HL_INLINE const T* converted(std::uint64_t address, std::int64_t offset, std::int64_t count,
                             Precision precision, T* buffer) {
    constexpr Precision own = sizeof(T) == 4 ? Precision::f32 : Precision::f64;
    if (precision == own) return at<const T>(address, offset);
    if (precision == Precision::f16) {
        for (std::int64_t j = 0; j < count; ++j)
            buffer[j] = static_cast<T>(f16_to_float(at<const std::uint16_t>(address, offset)[j]));
    } else if (precision == Precision::bf16) {
        for (std::int64_t j = 0; j < count; ++j)
            buffer[j] = static_cast<T>(bf16_to_float(at<const std::uint16_t>(address, offset)[j]));
    } else if (precision == Precision::f32) {
        for (std::int64_t j = 0; j < count; ++j)
            buffer[j] = static_cast<T>(at<const float>(address, offset)[j]);
    } else {
        for (std::int64_t j = 0; j < count; ++j)
            buffer[j] = static_cast<T>(at<const double>(address, offset)[j]);
    }
    return buffer;
}

// Where a task lies: a part of one tensor.
struct Part {
    std::int64_t tensor, begin, end;
};

HL_INLINE Part part_of(const TensorList& list, std::int64_t task) {
    std::int64_t low = 0, high = list.num_tensors;  // first_task[low] <= task < first_task[high]
    while (high - low > 1) {
        const std::int64_t middle = (low + high) / 2;
        (list.first_task[middle] <= task ? low : high) = middle;
    }
    const std::int64_t begin = (task - list.first_task[low]) * elements_per_task;
    const std::int64_t end = begin + elements_per_task;
    return {low, begin, end < list.sizes[low] ? end : list.sizes[low]};
}

// The memory of one client in a block.
template <class T, Preconditioner kind, bool decays>
struct ClientBlock {
    const T* gradients;
    const T* w;
    T* duals;
    T* moments;
    SisaScalars<T> c;

    HL_MEMBER ClientBlock(const SisaJob<T>& job, const Part& part, std::int64_t client,
                          std::int64_t begin, const StateBlock<T>& state, T* buffer)
        : duals(state.duals), moments(state.moments), c(job.scalars[client]) {
        const std::int64_t i = part.tensor * job.num_clients + client;
        gradients = converted(job.gradients[i], begin, state.count, job.gradient_precision, buffer);
        w = at<const T>(job.w[part.tensor], begin);
    }

    // The client's share of the sum for the pack from element j on.
    template <class V>
    HL_MEMBER V share(V zero, std::int64_t j) const {
        V dual = load<V>(duals + j);
        V moment = zero;
        if constexpr (kind == Preconditioner::diagonal || kind == Preconditioner::second_moment)
            moment = load<V>(moments + j);
        V decayed = zero;
        if constexpr (decays) decayed = c.coupled_decay * load<V>(w + j);
        const V result = sisa_client<V, kind>(load<V>(gradients + j), decayed, dual, moment, c);
        store(duals + j, dual);
        if constexpr (kind == Preconditioner::second_moment) store(moments + j, moment);
        return result;
    }
};

template <class T, Preconditioner kind, bool decays>
HL_INLINE void client_block(const SisaJob<T>& job, const Part& part, std::int64_t client,
                            std::int64_t begin, std::int64_t count, bool first, T* sums) {
    alignas(64) T buffer[elements_per_block];
    StateBlock<T> state(job, part.tensor * job.num_clients + client, begin, count);
    const ClientBlock<T, kind, decays> block(job, part, client, begin, state, buffer);
    over<T>(count, [&](auto zero, std::int64_t j) {
        using V = decltype(zero);
        const V share = block.share(zero, j);
        store(sums + j, first ? share : V(load<V>(sums + j) + share));
    });
    state.write(kind == Preconditioner::second_moment);
}

template <class T>
HL_INLINE void copy_block(const SisaJob<T>& job, const Part& part, std::int64_t begin,
                          std::int64_t count) {
    if (job.copies == nullptr) return;
    const T* const w = at<const T>(job.w[part.tensor], begin);
    std::uint16_t* const copy = at<std::uint16_t>(job.copies[part.tensor], begin);
    if (job.copy_precision == Precision::f16) {
        for (std::int64_t j = 0; j < count; ++j)
            copy[j] = float_to_f16(static_cast<float>(w[j]));
    } else {
        for (std::int64_t j = 0; j < count; ++j)
            copy[j] = float_to_bf16(static_cast<float>(w[j]));
    }
}

// The step of a single client, or of the last one that came by itself and adds to `sums`: all
// memory streams side by side. Nobody reads the sums any more, so they are not written back.
template <class T, Preconditioner kind, bool decays, bool adds>
HL_INLINE void single_block(const SisaJob<T>& job, const Part& part, std::int64_t begin,
                            std::int64_t count) {
    alignas(64) T buffer[elements_per_block];
    StateBlock<T> state(job, part.tensor, begin, count);
    const ClientBlock<T, kind, decays> block(job, part, 0, begin, state, buffer);
    T* const w = at<T>(job.w[part.tensor], begin);
    const T* const sums = adds ? at<const T>(job.sums[part.tensor], begin) : nullptr;
    over<T>(count, [&](auto zero, std::int64_t j) {
        using V = decltype(zero);
        V sum = block.share(zero, j);
        if constexpr (adds) sum = load<V>(sums + j) + sum;
        store(w + j, sisa_global(load<V>(w + j), sum, job.global));
    });
    state.write(kind == Preconditioner::second_moment);
    copy_block(job, part, begin, count);
}

template <class T>
HL_INLINE void global_block(const SisaJob<T>& job, const Part& part, std::int64_t begin,
                            std::int64_t count, const T* sums) {
    T* const w = at<T>(job.w[part.tensor], begin);
    over<T>(count, [&](auto zero, std::int64_t j) {
        using V = decltype(zero);
        store(w + j, sisa_global(load<V>(w + j), load<V>(sums + j), job.global));
    });
    copy_block(job, part, begin, count);
}

template <class T, Preconditioner kind, bool decays>
Status sisa_task(void* context, std::int64_t task) {
    const SisaJob<T>& job = *static_cast<const SisaJob<T>*>(context);
    const Part part = part_of(job.list, task);
    alignas(64) T local[elements_per_block];
    alignas(64) T total[elements_per_block];
    for (std::int64_t begin = part.begin; begin < part.end; begin += elements_per_block) {
        const std::int64_t left = part.end - begin;
        const std::int64_t count = left < elements_per_block ? left : elements_per_block;
        if (job.num_clients == 1 && job.finishes) {
            if (job.starts)
                single_block<T, kind, decays, false>(job, part, begin, count);
            else
                single_block<T, kind, decays, true>(job, part, begin, count);
            continue;
        }
        T* const sums = job.sums != nullptr ? at<T>(job.sums[part.tensor], begin) : local;
        for (std::int64_t client = 0; client < job.num_clients; ++client) {
            const bool new_part = client % clients_per_part == 0;
            if (new_part && client > 0)
                for (std::int64_t j = 0; j < count; ++j)
                    total[j] = client == clients_per_part ? sums[j] : total[j] + sums[j];
            client_block<T, kind, decays>(job, part, client, begin, count,
                                          new_part && (client > 0 || job.starts), sums);
        }
        if (job.num_clients > clients_per_part)
            for (std::int64_t j = 0; j < count; ++j)
                sums[j] = total[j] + sums[j];
        if (job.finishes) global_block(job, part, begin, count, sums);
    }
    return stop_requested() ? Status::interrupted("sisa_step") : Status::success();
}

template <class T, bool decays>
Task sisa_task_of(Preconditioner kind) {
    switch (kind) {
        case Preconditioner::constant:
            return sisa_task<T, Preconditioner::constant, decays>;
        case Preconditioner::diagonal:
            return sisa_task<T, Preconditioner::diagonal, decays>;
        case Preconditioner::second_moment:
            return sisa_task<T, Preconditioner::second_moment, decays>;
        default:
            return sisa_task<T, Preconditioner::softsign, decays>;
    }
}

template <class T>
Status sisa(const SisaJob<T>& job) {
    bool decays = false;
    for (std::int64_t i = 0; i < job.num_clients; ++i)
        decays |= job.scalars[i].coupled_decay != T(0);
    const Task task = decays ? sisa_task_of<T, true>(job.kind) : sisa_task_of<T, false>(job.kind);
    return parallel_for(job.list.first_task[job.list.num_tensors], job.num_threads, task,
                        const_cast<SisaJob<T>*>(&job));
}

template <class T>
Status momentum_task(void* context, std::int64_t task) {
    const MomentumJob<T>& job = *static_cast<const MomentumJob<T>*>(context);
    const Part part = part_of(job.list, task);
    alignas(64) T buffer[elements_per_block];
    for (std::int64_t begin = part.begin; begin < part.end; begin += elements_per_block) {
        const std::int64_t left = part.end - begin;
        const std::int64_t count = left < elements_per_block ? left : elements_per_block;
        const T* const gradients =
            converted(job.gradients[part.tensor], begin, count, job.gradient_precision, buffer);
        T* const momenta = at<T>(job.momenta[part.tensor], begin);
        T* const out = at<T>(job.out[part.tensor], begin);
        over<T>(count, [&](auto zero, std::int64_t j) {
            using V = decltype(zero);
            V momentum = load<V>(momenta + j);
            const V ahead =
                nesterov_momentum(load<V>(gradients + j), momentum, job.beta, job.gradient_scale);
            store(momenta + j, momentum);
            store(out + j, ahead);
        });
    }
    return stop_requested() ? Status::interrupted("momentum") : Status::success();
}

template <class T>
Status momentum(const MomentumJob<T>& job) {
    return parallel_for(job.list.first_task[job.list.num_tensors], job.num_threads,
                        momentum_task<T>, const_cast<MomentumJob<T>*>(&job));
}

}  // namespace

extern const AdmmStepTable admm_step_table;
const AdmmStepTable admm_step_table = {sisa<float>, sisa<double>, momentum<float>,
                                       momentum<double>};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
