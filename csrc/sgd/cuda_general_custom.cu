// What the host must know of the general kernel around a user's gradient (custom_cuda.cuh).
#include "cuda.hpp"
#include "cuda_chain.cuh"

extern "C" std::int64_t hl_cuda_sgd_custom_thread_bytes_f32(const hl::SgdChains<float>* chains) {
    return hl::count_lanes(*chains, 0).bytes();
}
extern "C" std::int64_t hl_cuda_sgd_custom_thread_bytes_f64(const hl::SgdChains<double>* chains) {
    return hl::count_lanes(*chains, 0).bytes();
}
