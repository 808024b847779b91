// CUDA drivers of the step kernels: one pass over all state; the sum over clients stays in
// registers, and everything travels in pieces of four elements where the addresses allow it.
#include "cuda.hpp"

#include "../core/cuda_device.cuh"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

constexpr int threads_per_block = 256;
// As in cpu_step.cpp: the order of the sums is part of the result.
constexpr std::int64_t clients_per_part = 64;

template <class T>
HL_DEVICE T* address(std::uint64_t value) {
    return reinterpret_cast<T*>(value);
}

// `width` elements of a gradient, from element j on, in the precision of the state.
template <class T, int width>
HL_DEVICE void read_gradient(std::uint64_t base, std::int64_t j, Precision precision, T* out) {
    constexpr Precision own = sizeof(T) == 4 ? Precision::f32 : Precision::f64;
    if (width == 4 && precision == own && base % 16 == 0) {
        const Four<T> four = load_four(address<const T>(base) + j);
        for (int k = 0; k < width; ++k)
            out[k] = four.value[k];
    } else if (precision == Precision::f32) {
        const float* const source = address<const float>(base) + j;
        for (int k = 0; k < width; ++k)
            out[k] = static_cast<T>(source[k]);
    } else if (precision == Precision::f64) {
        const double* const source = address<const double>(base) + j;
        for (int k = 0; k < width; ++k)
            out[k] = static_cast<T>(source[k]);
    } else {
        const std::uint16_t* const source = address<const std::uint16_t>(base) + j;
        for (int k = 0; k < width; ++k)
            out[k] = static_cast<T>(precision == Precision::f16 ? f16_to_float(source[k])
                                                                : bf16_to_float(source[k]));
    }
}

template <class T, int width>
HL_DEVICE void read(const T* source, T* out) {
    if constexpr (width == 4) {
        const Four<T> four = load_four(source);
        for (int k = 0; k < 4; ++k)
            out[k] = four.value[k];
    } else {
        out[0] = source[0];
    }
}

template <class T, int width>
HL_DEVICE void write(T* target, const T* values) {
    if constexpr (width == 4)
        store_four(target, values);
    else
        target[0] = values[0];
}

// `width` numbers of bfloat16; four of them are one piece of eight bytes.
template <int width>
HL_DEVICE void read_bf16(const std::uint16_t* source, float* out) {
    if constexpr (width == 4) {
        const std::uint64_t bits = *reinterpret_cast<const std::uint64_t*>(source);
        for (int k = 0; k < 4; ++k)
            out[k] = bf16_to_float(static_cast<std::uint16_t>(bits >> (16 * k)));
    } else {
        out[0] = bf16_to_float(source[0]);
    }
}

template <int width>
HL_DEVICE void write_bf16(std::uint16_t* target, const float* values, const std::uint32_t* noise) {
    if constexpr (width == 4) {
        std::uint64_t bits = 0;
        for (int k = 0; k < 4; ++k) {
            const std::uint64_t one = float_to_bf16_at_random(values[k], noise[k]);
            bits |= one << (16 * k);
        }
        *reinterpret_cast<std::uint64_t*>(target) = bits;
    } else {
        target[0] = float_to_bf16_at_random(values[0], noise[0]);
    }
}

// The state of one client in `width` elements from j on: as it is stored, in registers.
template <class T, int width, bool rounded>
HL_DEVICE void read_state(std::uint64_t base, std::int64_t j, T* out) {
    if constexpr (rounded)
        read_bf16<width>(address<const std::uint16_t>(base) + j, out);
    else
        read<T, width>(address<const T>(base) + j, out);
}

template <class T, int width, bool rounded>
HL_DEVICE void write_state(std::uint64_t base, std::int64_t j, const T* values,
                           const std::uint32_t* noise) {
    if constexpr (rounded)
        write_bf16<width>(address<std::uint16_t>(base) + j, values, noise);
    else
        write<T, width>(address<T>(base) + j, values);
}

// The halves of the words of `width` elements from j on.
template <int width>
HL_DEVICE void draw_rounding(const RoundedState& state, std::int64_t index, std::int64_t j,
                             std::uint32_t* low, std::uint32_t* high) {
    const PhiloxBlock<std::uint64_t> c =
        rounding_words(state, state.rows[index], static_cast<std::uint64_t>(j / 4));
    for (int k = 0; k < width; ++k) {
        const std::uint64_t word = c.word[width == 4 ? k : j % 4];
        low[k] = static_cast<std::uint32_t>(word & 0xffffu);
        high[k] = static_cast<std::uint32_t>((word >> 16) & 0xffffu);
    }
}

template <class T, int width, Preconditioner kind, bool rounded>
HL_DEVICE void client_elements(const SisaJob<T>& job, std::int64_t index, std::int64_t client,
                               std::int64_t j, const T* w, T* sums, bool first) {
    const SisaScalars<T> c = job.scalars[client];
    T gradient[width], dual[width], moment[width] = {};
    read_gradient<T, width>(job.gradients[index], j, job.gradient_precision, gradient);
    read_state<T, width, rounded>(job.duals[index], j, dual);
    constexpr bool moments =
        kind == Preconditioner::diagonal || kind == Preconditioner::second_moment;
    if constexpr (moments) read_state<T, width, rounded>(job.moments[index], j, moment);
    for (int k = 0; k < width; ++k) {
        const T decayed = c.coupled_decay != T(0) ? c.coupled_decay * w[k] : T(0);
        const T share = sisa_client<T, kind>(gradient[k], decayed, dual[k], moment[k], c);
        sums[k] = first ? share : sums[k] + share;
    }
    std::uint32_t low[width] = {}, high[width] = {};
    if constexpr (rounded) draw_rounding<width>(job.rounded, index, j, low, high);
    write_state<T, width, rounded>(job.duals[index], j, dual, low);
    if constexpr (kind == Preconditioner::second_moment)
        write_state<T, width, rounded>(job.moments[index], j, moment, high);
}

// All clients and the global part of `width` elements.
template <class T, int width, Preconditioner kind, bool rounded>
HL_DEVICE void step_elements(const SisaJob<T>& job, std::int64_t tensor, std::int64_t j) {
    T* const weights = address<T>(job.w[tensor]) + j;
    T* const outside = job.sums != nullptr ? address<T>(job.sums[tensor]) + j : nullptr;
    T w[width], sums[width] = {}, total[width] = {};
    read<T, width>(weights, w);
    if (!job.starts) read<T, width>(outside, sums);
    for (std::int64_t client = 0; client < job.num_clients; ++client) {
        const bool new_part = client % clients_per_part == 0;
        if (new_part && client > 0)
            for (int k = 0; k < width; ++k)
                total[k] = client == clients_per_part ? sums[k] : total[k] + sums[k];
        client_elements<T, width, kind, rounded>(job, tensor * job.num_clients + client, client, j,
                                                 w, sums, new_part && (client > 0 || job.starts));
    }
    if (job.num_clients > clients_per_part)
        for (int k = 0; k < width; ++k)
            sums[k] = total[k] + sums[k];
    if (outside != nullptr) write<T, width>(outside, sums);
    if (!job.finishes) return;
    for (int k = 0; k < width; ++k)
        w[k] = sisa_global(w[k], sums[k], job.global);
    write<T, width>(weights, w);
    if (job.copies == nullptr) return;
    std::uint16_t* const copy = address<std::uint16_t>(job.copies[tensor]) + j;
    for (int k = 0; k < width; ++k) {
        const float single = static_cast<float>(w[k]);
        copy[k] =
            job.copy_precision == Precision::f16 ? float_to_f16(single) : float_to_bf16(single);
    }
}

struct Chunk {
    std::int64_t tensor, begin, end;
};

HL_DEVICE Chunk chunk_at(const TensorList& list, std::int64_t number) {
    std::int64_t low = 0, high = list.num_tensors;
    while (high - low > 1) {
        const std::int64_t middle = (low + high) / 2;
        if (list.first_task[middle] <= number)
            low = middle;
        else
            high = middle;
    }
    const std::int64_t begin = (number - list.first_task[low]) * cuda_chunk;
    const std::int64_t end = begin + cuda_chunk;
    return {low, begin, end < list.sizes[low] ? end : list.sizes[low]};
}

// Whether all addresses of a tensor are multiples of what four elements of it take.
template <class T>
HL_DEVICE bool is_aligned(const SisaJob<T>& job, std::int64_t tensor) {
    std::uint64_t all = job.w[tensor];
    if (job.sums != nullptr) all |= job.sums[tensor];
    for (std::int64_t i = tensor * job.num_clients; i < (tensor + 1) * job.num_clients; ++i) {
        all |= job.duals[i];
        if (job.moments != nullptr) all |= job.moments[i];
    }
    return all % 16 == 0;
}

template <class T, Preconditioner kind, bool rounded>
__global__ void __launch_bounds__(threads_per_block) sisa_chunks(CudaSisa<T> call) {
    if (call.found_inf != nullptr && *call.found_inf != 0.0f) return;
    const SisaJob<T>& job = call.job;
    for (std::int64_t number = blockIdx.x; number < call.chunks; number += gridDim.x) {
        const Chunk chunk = chunk_at(job.list, number);
        std::int64_t rest = chunk.begin;
        if (is_aligned(job, chunk.tensor)) {
            rest = chunk.end / 4 * 4;  // chunks begin at multiples of four
            for (std::int64_t j = chunk.begin + 4 * static_cast<std::int64_t>(threadIdx.x);
                 j < rest; j += 4 * static_cast<std::int64_t>(blockDim.x))
                step_elements<T, 4, kind, rounded>(job, chunk.tensor, j);
        }
        for (std::int64_t j = rest + threadIdx.x; j < chunk.end; j += blockDim.x)
            step_elements<T, 1, kind, rounded>(job, chunk.tensor, j);
    }
}

template <class T>
__global__ void __launch_bounds__(threads_per_block) momentum_chunks(CudaMomentum<T> call) {
    if (call.found_inf != nullptr && *call.found_inf != 0.0f) return;
    const MomentumJob<T>& job = call.job;
    for (std::int64_t number = blockIdx.x; number < call.chunks; number += gridDim.x) {
        const Chunk chunk = chunk_at(job.list, number);
        T* const momenta = address<T>(job.momenta[chunk.tensor]);
        T* const out = address<T>(job.out[chunk.tensor]);
        for (std::int64_t j = chunk.begin + threadIdx.x; j < chunk.end; j += blockDim.x) {
            T gradient;
            read_gradient<T, 1>(job.gradients[chunk.tensor], j, job.gradient_precision, &gradient);
            out[j] = nesterov_momentum(gradient, momenta[j], job.beta, job.gradient_scale);
        }
    }
}

template <class T, Preconditioner kind>
Status sisa_of(const CudaSisa<T>& call, const CudaCall& where) {
    const LaunchShape shape{call.chunks, threads_per_block, 0};
    if constexpr (sizeof(T) == 4) {
        if (call.job.rounded.rows != nullptr)
            return launch("sisa_step", sisa_chunks<T, kind, true>, shape, where, call);
    }
    return launch("sisa_step", sisa_chunks<T, kind, false>, shape, where, call);
}

template <class T>
Status sisa(const CudaSisa<T>& call, const CudaCall& where) {
    switch (call.job.kind) {
        case Preconditioner::constant:
            return sisa_of<T, Preconditioner::constant>(call, where);
        case Preconditioner::diagonal:
            return sisa_of<T, Preconditioner::diagonal>(call, where);
        case Preconditioner::second_moment:
            return sisa_of<T, Preconditioner::second_moment>(call, where);
        default:
            return sisa_of<T, Preconditioner::softsign>(call, where);
    }
}

template <class T>
Status momentum(const CudaMomentum<T>& call, const CudaCall& where) {
    return launch("momentum", momentum_chunks<T>, LaunchShape{call.chunks, threads_per_block, 0},
                  where, call);
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

hl::Status hl_cuda_admm_sisa_f32(const hl::CudaSisa<float>* call, const hl::CudaCall* where) {
    return hl::sisa(*call, *where);
}
hl::Status hl_cuda_admm_sisa_f64(const hl::CudaSisa<double>* call, const hl::CudaCall* where) {
    return hl::sisa(*call, *where);
}
hl::Status hl_cuda_admm_momentum_f32(const hl::CudaMomentum<float>* call,
                                     const hl::CudaCall* where) {
    return hl::momentum(*call, *where);
}
hl::Status hl_cuda_admm_momentum_f64(const hl::CudaMomentum<double>* call,
                                     const hl::CudaCall* where) {
    return hl::momentum(*call, *where);
}
