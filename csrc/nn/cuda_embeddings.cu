// Embeddings of categories and of times on the device.
#include "cuda_pass.cuh"
#include "step_layers.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

namespace categories {

template <class T>
struct Lookup {
    const T* table;
    const std::int32_t* index;
    const std::int64_t* rows;
    Columns<T> addend, output;
    std::int64_t count;
};

HL_DEVICE std::int64_t index_of(const std::int32_t* index, const std::int64_t* rows,
                                std::int64_t r) {
    return index[rows != nullptr ? rows[r] : r];
}

template <class T>
__global__ void __launch_bounds__(nn_threads) look_up(Lookup<T> job) {
    const std::int64_t width = job.output.width;
    for (std::int64_t i = grid_thread(); i < job.count * width; i += grid_threads()) {
        const std::int64_t r = i / width, j = i % width;
        const std::int64_t k = index_of(job.index, job.rows, r);
        T x = k < 0 ? T(0) : job.table[k * width + j];
        if (job.addend.exists()) x = x + job.addend.row(r)[j];
        job.output.row(r)[j] = x;
    }
}

template <class T>
struct Scatter {
    T* table;
    const std::int32_t* index;
    const std::int64_t* rows;
    Columns<T> gradient, addend;
    std::int64_t count, categories;
    bool adds_table, adds_addend;
};

// One thread for each column, which adds the rows in their order.
template <class T>
__global__ void __launch_bounds__(nn_threads) scatter(Scatter<T> job) {
    const std::int64_t width = job.gradient.width;
    for (std::int64_t j = grid_thread(); j < width; j += grid_threads()) {
        for (std::int64_t k = 0; !job.adds_table && k < job.categories; ++k)
            job.table[k * width + j] = T(0);
        for (std::int64_t r = 0; r < job.count; ++r) {
            const T value = job.gradient.row(r)[j];
            const std::int64_t k = index_of(job.index, job.rows, r);
            if (k >= 0) job.table[k * width + j] = job.table[k * width + j] + value;
            if (job.addend.exists()) put(job.addend.row(r) + j, job.adds_addend, value);
        }
    }
}

template <class T>
Status forward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t, const CudaCall& call) {
    const Lookup<T> job{
        parameters_at(pass, it.weight), pass.tables.indices[it.input.slot], pass.tables.rows,
        values_of(pass, it.addend),     values_of(pass, it.output),         pass.rows};
    return launch("nn_forward", look_up<T>, shape_for(pass.rows * job.output.width, nn_threads),
                  call, job);
}

template <class T>
Status backward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n,
                const CudaCall& call) {
    const NnDuty& duty = pass.plan.duties[n];
    const Scatter<T> job{parameter_gradient_at(pass, it.weight),
                         pass.tables.indices[it.input.slot],
                         pass.tables.rows,
                         gradients_of(pass, it.output),
                         duty.needs_addend ? gradients_of(pass, it.addend) : Columns<T>{},
                         pass.rows,
                         it.input.width,
                         duty.adds_weight,
                         duty.adds_addend};
    return launch("nn_backward", scatter<T>, shape_for(job.gradient.width, nn_threads), call, job);
}

}  // namespace categories

namespace times {

template <class T>
struct Times {
    Columns<T> x, y, dx, dy;
    double scale;
    std::int64_t rows;
    bool adds;
};

template <class T>
__global__ void __launch_bounds__(nn_threads) embed(Times<T> job) {
    const std::int64_t half = job.y.width / 2;
    for (std::int64_t i = grid_thread(); i < job.rows * half; i += grid_threads()) {
        const std::int64_t r = i / half, j = i % half;
        const double tau = job.scale * static_cast<double>(*job.x.row(r));
        double sine_value, cosine_value;
        sine_cosine(tau * time_frequency(j, half), sine_value, cosine_value);
        job.y.row(r)[j] = static_cast<T>(sine_value);
        job.y.row(r)[half + j] = static_cast<T>(cosine_value);
    }
}

template <class T>
__global__ void __launch_bounds__(nn_threads) times_slope(Times<T> job) {
    const std::int64_t half = job.y.width / 2;
    for (std::int64_t r = grid_thread(); r < job.rows; r += grid_threads()) {
        const T* const y = job.y.row(r);
        const T* const dy = job.dy.row(r);
        double sum = 0;
        for (std::int64_t j = 0; j < half; ++j) {
            const double turn = static_cast<double>(y[half + j]) * static_cast<double>(dy[j]) -
                                static_cast<double>(y[j]) * static_cast<double>(dy[half + j]);
            sum = sum + time_frequency(j, half) * turn;
        }
        put(job.dx.row(r), job.adds, static_cast<T>(job.scale * sum));
    }
}

template <class T>
Status forward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t, const CudaCall& call) {
    const Times<T> job{values_of(pass, it.input),
                       values_of(pass, it.output),
                       {},
                       {},
                       it.constants[0],
                       pass.rows,
                       false};
    return launch("nn_forward", embed<T>, shape_for(pass.rows * job.y.width / 2, nn_threads), call,
                  job);
}

template <class T>
Status backward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n,
                const CudaCall& call) {
    const NnDuty& duty = pass.plan.duties[n];
    if (!duty.needs_input) return Status::success();
    const Times<T> job{values_of(pass, it.input),
                       values_of(pass, it.output),
                       gradients_of(pass, it.input),
                       gradients_of(pass, it.output),
                       it.constants[0],
                       pass.rows,
                       duty.adds_input};
    return launch("nn_backward", times_slope<T>, shape_for(pass.rows, nn_threads), call, job);
}

}  // namespace times
}  // namespace

HL_NN_DEFINE_CUDA_PASSES(embedding, categories)
HL_NN_DEFINE_CUDA_PASSES(time_embedding, times)

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
