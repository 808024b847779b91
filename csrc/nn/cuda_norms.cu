// Batch and layer normalisation on the device; sums are in double. One thread sums a column over
// the rows, one warp a row over the columns.
#include "cuda_pass.cuh"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class T>
struct Norm {
    Columns<T> x, y, pre, dx, dy;
    Columns<T> source;  // of the slope
    const T* gamma;
    const T* beta;
    T* gamma_gradient;
    T* beta_gradient;
    double* kept;              // means, then inverse deviations
    std::int64_t kept_stride;  // from the ones to the others
    T* running;
    double eps, momentum;
    NnActivation activation;
    std::int64_t rows;
    bool training, adds_input, adds_gamma, adds_beta;

    HL_DEVICE_MEMBER T normal(std::int64_t r, std::int64_t j, std::int64_t i) const {
        return (x.row(r)[j] - static_cast<T>(kept[i])) * static_cast<T>(kept[kept_stride + i]);
    }
    HL_DEVICE_MEMBER void finish(std::int64_t r, std::int64_t j, T z) const {
        if (gamma != nullptr) z = z * gamma[j];
        if (beta != nullptr) z = z + beta[j];
        if (pre.exists()) pre.row(r)[j] = z;
        y.row(r)[j] = activate(activation, z);
    }
};

template <class T>
Norm<T> norm_of(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n, bool by_column) {
    const NnDuty* const duty = pass.plan.duties != nullptr ? pass.plan.duties + n : nullptr;
    const bool back = duty != nullptr && pass.parameter_gradient != nullptr;
    const NnActivation activation = static_cast<NnActivation>(it.activation);
    return {values_of(pass, it.input),
            values_of(pass, it.output),
            values_of(pass, it.pre),
            back && duty->needs_input ? gradients_of(pass, it.input) : Columns<T>{},
            back ? gradients_of(pass, it.output) : Columns<T>{},
            values_of(pass, slope_reads_argument(activation) ? it.pre : it.output),
            parameters_at(pass, it.weight),
            parameters_at(pass, it.bias),
            back ? parameter_gradient_at(pass, it.weight) : nullptr,
            back ? parameter_gradient_at(pass, it.bias) : nullptr,
            pass.arena.statistics[n],
            by_column ? it.output.width : pass.arena.capacity,
            by_column ? pass.buffers + it.buffer : nullptr,
            it.constants[0],
            it.constants[1],
            activation,
            pass.rows,
            pass.training != 0,
            back && duty->adds_input,
            back && duty->adds_weight,
            back && duty->adds_bias};
}

// The gradient of the output becomes that of f's argument.
template <class T>
__global__ void __launch_bounds__(nn_threads) slopes(Norm<T> job) {
    for (std::int64_t i = grid_thread(); i < job.rows * job.y.width; i += grid_threads()) {
        const std::int64_t r = i / job.y.width, j = i % job.y.width;
        T* const g = job.dy.row(r) + j;
        *g = *g * activation_slope(job.activation, job.source.row(r)[j]);
    }
}

template <class T>
Status apply_slopes(const Norm<T>& job, const CudaCall& call) {
    if (job.activation == NnActivation::identity) return Status::success();
    return launch("nn_backward", slopes<T>, shape_for(job.rows * job.y.width, nn_threads), call,
                  job);
}

namespace batches {

template <class T>
__global__ void __launch_bounds__(nn_threads) statistics(Norm<T> job) {
    const double count = static_cast<double>(job.rows);
    for (std::int64_t j = grid_thread(); j < job.x.width; j += grid_threads()) {
        T* const mean = job.running + j;
        T* const variance = mean + job.x.width;
        double used = static_cast<double>(*variance);
        job.kept[j] = static_cast<double>(*mean);
        if (job.training) {
            double sum = 0, square = 0;
            for (std::int64_t r = 0; r < job.rows; ++r)
                sum = sum + static_cast<double>(job.x.row(r)[j]);
            const double m = sum / count;
            for (std::int64_t r = 0; r < job.rows; ++r) {
                const double d = static_cast<double>(job.x.row(r)[j]) - m;
                square = square + d * d;
            }
            const T keep = static_cast<T>(1.0 - job.momentum), take = static_cast<T>(job.momentum);
            *mean = keep * *mean + take * static_cast<T>(m);
            *variance = keep * *variance + take * static_cast<T>(square / (count - 1.0));
            job.kept[j] = m;
            used = square / count;
        }
        job.kept[job.kept_stride + j] = 1.0 / square_root(used + job.eps);
    }
}

template <class T>
__global__ void __launch_bounds__(nn_threads) normalise(Norm<T> job) {
    for (std::int64_t i = grid_thread(); i < job.rows * job.x.width; i += grid_threads()) {
        const std::int64_t r = i / job.x.width, j = i % job.x.width;
        job.finish(r, j, job.normal(r, j, j));
    }
}

template <class T>
Status forward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n,
               const CudaCall& call) {
    if (pass.training != 0 && pass.rows < 2)
        return Status::invalid_argument("nn: batch_norm needs at least two rows in training");
    const Norm<T> job = norm_of(pass, it, n, true);
    const Status status =
        launch("nn_forward", statistics<T>, shape_for(job.x.width, nn_threads), call, job);
    if (!status.ok()) return status;
    return launch("nn_forward", normalise<T>, shape_for(pass.rows * job.x.width, nn_threads), call,
                  job);
}

// dgamma, dbeta and dx = gamma / (B s) (B dy - sum dy - xh sum dy xh), a column for each thread.
template <class T>
__global__ void __launch_bounds__(nn_threads) back(Norm<T> job) {
    const double share = job.training ? 1.0 / static_cast<double>(job.rows) : 0.0;
    for (std::int64_t j = grid_thread(); j < job.x.width; j += grid_threads()) {
        const double m = job.kept[j];
        double sum = 0, product = 0;
        for (std::int64_t r = 0; r < job.rows; ++r) {
            const double g = static_cast<double>(job.dy.row(r)[j]);
            sum = sum + g;
            product = product + g * (static_cast<double>(job.x.row(r)[j]) - m);
        }
        product = product * job.kept[job.kept_stride + j];
        if (job.gamma_gradient != nullptr)
            put(job.gamma_gradient + j, job.adds_gamma, static_cast<T>(product));
        if (job.beta_gradient != nullptr)
            put(job.beta_gradient + j, job.adds_beta, static_cast<T>(sum));
        if (!job.dx.exists()) continue;
        const T offset = static_cast<T>(sum * share), tilt = static_cast<T>(product * share);
        const T inverse = static_cast<T>(job.kept[job.kept_stride + j]);
        const T factor = job.gamma != nullptr ? job.gamma[j] * inverse : inverse;
        for (std::int64_t r = 0; r < job.rows; ++r) {
            const T rest = job.dy.row(r)[j] - offset - job.normal(r, j, j) * tilt;
            put(job.dx.row(r) + j, job.adds_input, factor * rest);
        }
    }
}

template <class T>
Status backward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n,
                const CudaCall& call) {
    const Norm<T> job = norm_of(pass, it, n, true);
    const Status status = apply_slopes(job, call);
    if (!status.ok()) return status;
    return launch("nn_backward", back<T>, shape_for(job.x.width, nn_threads), call, job);
}

}  // namespace batches

namespace layers {

HL_DEVICE double warp_sum(double x) {
    for (int bits = warp_lanes / 2; bits > 0; bits /= 2)
        x = x + __shfl_xor_sync(full_warp, x, bits);
    return x;
}

// The warps of the grid take rows in turn; all lanes of a warp have the same row.
template <class T>
__global__ void __launch_bounds__(nn_threads) normalise(Norm<T> job) {
    const std::int64_t width = job.x.width, lane = threadIdx.x % warp_lanes;
    const double count = static_cast<double>(width);
    for (std::int64_t r = grid_thread() / warp_lanes; r < job.rows;
         r += grid_threads() / warp_lanes) {
        const T* const x = job.x.row(r);
        double sum = 0, square = 0;
        for (std::int64_t j = lane; j < width; j += warp_lanes)
            sum = sum + static_cast<double>(x[j]);
        const double mean = warp_sum(sum) / count;
        for (std::int64_t j = lane; j < width; j += warp_lanes) {
            const double d = static_cast<double>(x[j]) - mean;
            square = square + d * d;
        }
        const double inverse = 1.0 / square_root(warp_sum(square) / count + job.eps);
        for (std::int64_t j = lane; j < width; j += warp_lanes)
            job.finish(r, j, (x[j] - static_cast<T>(mean)) * static_cast<T>(inverse));
        if (lane == 0) {
            job.kept[r] = mean;
            job.kept[job.kept_stride + r] = inverse;
        }
    }
}

template <class T>
Status forward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n,
               const CudaCall& call) {
    const Norm<T> job = norm_of(pass, it, n, false);
    return launch("nn_forward", normalise<T>, shape_for(pass.rows * warp_lanes, nn_threads), call,
                  job);
}

template <class T>
__global__ void __launch_bounds__(nn_threads) scale_gradients(Norm<T> job) {
    for (std::int64_t j = grid_thread(); j < job.x.width; j += grid_threads()) {
        double product = 0, sum = 0;
        for (std::int64_t r = 0; r < job.rows; ++r) {
            const double g = static_cast<double>(job.dy.row(r)[j]);
            const double normal = (static_cast<double>(job.x.row(r)[j]) - job.kept[r]) *
                                  job.kept[job.kept_stride + r];
            product = product + g * normal;
            sum = sum + g;
        }
        if (job.gamma_gradient != nullptr)
            put(job.gamma_gradient + j, job.adds_gamma, static_cast<T>(product));
        if (job.beta_gradient != nullptr)
            put(job.beta_gradient + j, job.adds_beta, static_cast<T>(sum));
    }
}

// dx = (1 / s) (g - mean(g) - xh mean(g xh)) with g = gamma dy.
template <class T>
__global__ void __launch_bounds__(nn_threads) back(Norm<T> job) {
    const std::int64_t width = job.x.width, lane = threadIdx.x % warp_lanes;
    const double count = static_cast<double>(width);
    for (std::int64_t r = grid_thread() / warp_lanes; r < job.rows;
         r += grid_threads() / warp_lanes) {
        const double mean = job.kept[r], inverse = job.kept[job.kept_stride + r];
        const auto gradient = [&](std::int64_t j) {
            const double g = static_cast<double>(job.dy.row(r)[j]);
            return job.gamma != nullptr ? g * static_cast<double>(job.gamma[j]) : g;
        };
        const auto normal = [&](std::int64_t j) {
            return (static_cast<double>(job.x.row(r)[j]) - mean) * inverse;
        };
        double sum = 0, product = 0;
        for (std::int64_t j = lane; j < width; j += warp_lanes) {
            sum = sum + gradient(j);
            product = product + gradient(j) * normal(j);
        }
        sum = warp_sum(sum) / count;
        product = warp_sum(product) / count;
        for (std::int64_t j = lane; j < width; j += warp_lanes) {
            const double value = inverse * (gradient(j) - sum - normal(j) * product);
            put(job.dx.row(r) + j, job.adds_input, static_cast<T>(value));
        }
    }
}

template <class T>
Status backward(const NnPass<T>& pass, const NnInstruction& it, std::int64_t n,
                const CudaCall& call) {
    const Norm<T> job = norm_of(pass, it, n, false);
    Status status = apply_slopes(job, call);
    if (!status.ok()) return status;
    status =
        launch("nn_backward", scale_gradients<T>, shape_for(job.x.width, nn_threads), call, job);
    if (!status.ok() || !job.dx.exists()) return status;
    return launch("nn_backward", back<T>, shape_for(pass.rows * warp_lanes, nn_threads), call, job);
}

}  // namespace layers
}  // namespace

HL_NN_DEFINE_CUDA_PASSES(batch_norm, batches)
HL_NN_DEFINE_CUDA_PASSES(layer_norm, layers)

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
