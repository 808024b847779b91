// Clipping by the global norm, Adam or AdamW, and the moving average on the device. The norm never
// leaves it: what clips is computed where it is used.
#include "cuda_block.cuh"
#include "cuda_pass.cuh"
#include "step_update.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {
namespace {

template <class T>
__global__ void __launch_bounds__(nn_threads)
    squares(const T* gradient, std::int64_t count, std::int64_t tasks, double* sums) {
    HL_DYNAMIC_SHARED(memory);
    double* const shared = reinterpret_cast<double*>(memory);
    for (std::int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
        const std::int64_t begin = task * nn_update_elements;
        const std::int64_t end =
            begin + nn_update_elements < count ? begin + nn_update_elements : count;
        double sum = 0;
        for (std::int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
            const double g = static_cast<double>(gradient[i]);
            sum = sum + g * g;
        }
        sum = block_sum(sum, shared);
        if (threadIdx.x == 0) sums[task] = sum;
    }
}

__global__ void __launch_bounds__(nn_threads)
    norm_of_sums(const double* sums, std::int64_t tasks, double* norm) {
    HL_DYNAMIC_SHARED(memory);
    double sum = 0;
    for (std::int64_t i = threadIdx.x; i < tasks; i += blockDim.x)
        sum = sum + sums[i];
    sum = block_sum(sum, reinterpret_cast<double*>(memory));
    if (threadIdx.x == 0) *norm = square_root(sum);
}

struct Ranges {
    const NnRange* data;
    std::int64_t count;
};

HL_DEVICE bool inside(const Ranges& ranges, std::int64_t i) {
    for (std::int64_t k = 0; k < ranges.count; ++k) {
        if (i >= ranges.data[k].begin && i < ranges.data[k].end) return true;
    }
    return false;
}

template <class T>
__global__ void __launch_bounds__(nn_threads)
    update(NnState<T> state, const T* gradient, std::int64_t count, NnStep<T> decayed,
           double clip_norm, const double* norm, Ranges no_decay) {
    decayed.clip = static_cast<T>(clip_factor(clip_norm, *norm));
    const NnStep<T> plain = without_decay(decayed);
    for (std::int64_t i = grid_thread(); i < count; i += grid_threads()) {
        const NnStep<T>& s = inside(no_decay, i) ? plain : decayed;
        update_elements<T>(state, gradient, i, s);
    }
}

template <class T>
Status run(const NnUpdateJob<T>& job, const CudaCall& call) {
    constexpr std::int64_t shared = nn_threads * static_cast<std::int64_t>(sizeof(double));
    const std::int64_t tasks = nn_update_tasks(job.count);
    Status status = launch("nn_update", squares<T>, LaunchShape{tasks, nn_threads, shared}, call,
                           job.gradient, job.count, tasks, job.partial_sums);
    if (!status.ok()) return status;
    status = launch("nn_update", norm_of_sums, LaunchShape{1, nn_threads, shared}, call,
                    job.partial_sums, tasks, job.norm);
    if (!status.ok()) return status;
    return launch("nn_update", update<T>, shape_for(job.count, nn_threads), call, job.state,
                  job.gradient, job.count, step_of(job), job.optimizer.clip_norm, job.norm,
                  Ranges{job.optimizer.no_decay, job.optimizer.num_no_decay});
}

}  // namespace
}  // namespace HL_ISA_NAMESPACE
}  // namespace hl

hl::Status hl_cuda_nn_update_f32(const hl::NnUpdateJob<float>* job, const hl::CudaCall* call) {
    return hl::run(*job, *call);
}
hl::Status hl_cuda_nn_update_f64(const hl::NnUpdateJob<double>* job, const hl::CudaCall* call) {
    return hl::run(*job, *call);
}
