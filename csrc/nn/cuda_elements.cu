// What happens to every element around the products, activations of their own, and dropout. Element
// by element and column by column the arithmetic is that of the C++ drivers.
#include "cuda_pass.cuh"
#include "step_layers.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class T>
struct Elements {
    Columns<T> output, addend, pre;
    const T* bias;
    NnActivation activation;
    std::int64_t rows;
};

template <class T>
__global__ void __launch_bounds__(nn_threads) finish(Elements<T> job) {
    const std::int64_t width = job.output.width;
    for (std::int64_t i = grid_thread(); i < job.rows * width; i += grid_threads()) {
        const std::int64_t r = i / width, j = i % width;
        T* const y = job.output.row(r) + j;
        T x = *y;
        if (job.bias != nullptr) x = x + read_only(job.bias + j);
        if (job.addend.exists()) x = x + job.addend.row(r)[j];
        if (job.pre.exists()) job.pre.row(r)[j] = x;
        *y = activate(job.activation, x);
    }
}

template <class T>
struct Slopes {
    Columns<T> gradient, source, target;  // target: of the addend or the input, or nothing
    NnActivation activation;
    bool adds;
    std::int64_t rows;
};

template <class T>
__global__ void __launch_bounds__(nn_threads) unfinish(Slopes<T> job) {
    const std::int64_t width = job.gradient.width;
    for (std::int64_t i = grid_thread(); i < job.rows * width; i += grid_threads()) {
        const std::int64_t r = i / width, j = i % width;
        T* const g = job.gradient.row(r) + j;
        T value = *g;
        if (job.activation != NnActivation::identity) {
            value = value * activation_slope(job.activation, job.source.row(r)[j]);
            *g = value;
        }
        if (job.target.exists()) put(job.target.row(r) + j, job.adds, value);
    }
}

constexpr std::int64_t rows_per_sum = 64;

template <class T>
__global__ void __launch_bounds__(nn_threads)
    sum_rows(Columns<T> x, std::int64_t rows, bool adds, T* sums) {
    for (std::int64_t j = grid_thread(); j < x.width; j += grid_threads()) {
        T total = adds ? sums[j] : T(0);
        for (std::int64_t first = 0; first < rows; first += rows_per_sum) {
            const std::int64_t last = first + rows_per_sum < rows ? first + rows_per_sum : rows;
            T part = 0;
            for (std::int64_t r = first; r < last; ++r)
                part = part + x.row(r)[j];
            total = total + part;
        }
        sums[j] = total;
    }
}

template <class T>
Status apply_finish(const NnPass<T>& pass, const NnInstruction& it, const CudaCall& call) {
    const Elements<T> job{values_of(pass, it.output),
                          values_of(pass, it.addend),
                          values_of(pass, it.pre),
                          parameters_at(pass, it.bias),
                          static_cast<NnActivation>(it.activation),
                          pass.rows};
    return launch("nn_forward", finish<T>, shape_for(pass.rows * job.output.width, nn_threads),
                  call, job);
}

template <class T>
Columns<T> slope_source(const NnPass<T>& pass, const NnInstruction& it) {
    const NnActivation kind = static_cast<NnActivation>(it.activation);
    const bool own = static_cast<NnOperation>(it.operation) == NnOperation::activation;
    return slope_reads_argument(kind) ? values_of(pass, own ? it.input : it.pre)
                                      : values_of(pass, it.output);
}

template <class T>
Status apply_slopes(const NnPass<T>& pass, const NnInstruction& it, Columns<T> target, bool adds,
                    const CudaCall& call) {
    const Slopes<T> job{gradients_of(pass, it.output),
                        slope_source(pass, it),
                        target,
                        static_cast<NnActivation>(it.activation),
                        adds,
                        pass.rows};
    if (job.activation == NnActivation::identity && !target.exists()) return Status::success();
    return launch("nn_backward", unfinish<T>, shape_for(pass.rows * job.gradient.width, nn_threads),
                  call, job);
}

template <class T>
Status undo_finish(const NnPass<T>& pass, const NnInstruction& it, const NnDuty& duty,
                   const CudaCall& call) {
    const Columns<T> addend = duty.needs_addend ? gradients_of(pass, it.addend) : Columns<T>{};
    const Status status = apply_slopes(pass, it, addend, duty.adds_addend, call);
    T* const bias = parameter_gradient_at(pass, it.bias);
    if (!status.ok() || bias == nullptr) return status;
    const Columns<T> gradient = gradients_of(pass, it.output);
    return launch("nn_backward", sum_rows<T>, shape_for(gradient.width, nn_threads), call, gradient,
                  pass.rows, duty.adds_bias, bias);
}

namespace activations {

template <class T>
__global__ void __launch_bounds__(nn_threads)
    values(Columns<T> x, Columns<T> y, NnActivation kind, std::int64_t rows) {
    for (std::int64_t i = grid_thread(); i < rows * x.width; i += grid_threads()) {
        const std::int64_t r = i / x.width, j = i % x.width;
        y.row(r)[j] = activate(kind, x.row(r)[j]);
    }
}

template <class T>
Status forward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t, const CudaCall& call) {
    const Columns<T> x = values_of(pass, it.input);
    return launch("nn_forward", values<T>, shape_for(pass.rows * x.width, nn_threads), call, x,
                  values_of(pass, it.output), static_cast<NnActivation>(it.activation), pass.rows);
}

template <class T>
Status backward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n,
                const CudaCall& call) {
    return apply_slopes(pass, it, gradients_of(pass, it.input), pass.plan.duties[n].adds_input,
                        call);
}

}  // namespace activations

namespace masks {

template <class T>
struct Mask {
    Columns<T> from, to;
    T scale;
    std::uint64_t threshold;
    PhiloxKey key;
    std::int64_t rows, step, layer;
    bool adds;
};

// One thread for the four columns of a block.
template <class T>
__global__ void __launch_bounds__(nn_threads) apply(Mask<T> job) {
    const std::int64_t width = job.from.width, blocks = (width + 3) / 4;
    for (std::int64_t i = grid_thread(); i < job.rows * blocks; i += grid_threads()) {
        const std::int64_t r = i / blocks, b = i % blocks;
        PhiloxBlock<std::uint64_t> words{};
        if (job.threshold != 0) words = dropout_words(job.layer, r, job.step, 4 * b, job.key);
        for (std::int64_t j = 4 * b; j < width && j < 4 * b + 4; ++j) {
            const T x = job.from.row(r)[j];
            const bool kept = (words.word[j - 4 * b] & 0xffffffffu) >= job.threshold;
            const T value = job.threshold == 0 ? x : kept ? x * job.scale : T(0);
            put(job.to.row(r) + j, job.adds, value);
        }
    }
}

template <class T>
Status run(const NnPass<T>& pass, const NnInstruction& it, Columns<T> from, Columns<T> to,
           bool adds, const CudaCall& call) {
    const double p = pass.training != 0 ? it.constants[0] : 0.0;
    const Mask<T> job{from,
                      to,
                      static_cast<T>(1.0 / (1.0 - p)),
                      dropout_threshold(p),
                      philox_key(pass.seed),
                      pass.rows,
                      pass.step,
                      it.buffer,
                      adds};
    return launch("nn_dropout", apply<T>, shape_for(pass.rows * ((from.width + 3) / 4), nn_threads),
                  call, job);
}

template <class T>
Status forward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t, const CudaCall& call) {
    return run(pass, it, values_of(pass, it.input), values_of(pass, it.output), false, call);
}

template <class T>
Status backward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n,
                const CudaCall& call) {
    return run(pass, it, gradients_of(pass, it.output), gradients_of(pass, it.input),
               pass.plan.duties[n].adds_input, call);
}

}  // namespace masks
}  // namespace

HL_NN_DEFINE_CUDA_PASSES(activation, activations)
HL_NN_DEFINE_CUDA_PASSES(dropout, masks)

Status cuda_finish(const NnPass<float>& pass, const NnInstruction& it, const CudaCall& call) {
    return apply_finish(pass, it, call);
}
Status cuda_finish(const NnPass<double>& pass, const NnInstruction& it, const CudaCall& call) {
    return apply_finish(pass, it, call);
}
Status cuda_unfinish(const NnPass<float>& pass, const NnInstruction& it, const NnDuty& duty,
                     const CudaCall& call) {
    return undo_finish(pass, it, duty, call);
}
Status cuda_unfinish(const NnPass<double>& pass, const NnInstruction& it, const NnDuty& duty,
                     const CudaCall& call) {
    return undo_finish(pass, it, duty, call);
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
