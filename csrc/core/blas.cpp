#include "blas.hpp"

#include <atomic>

namespace hl {
namespace {

std::atomic<Gemm<float>> single_product{nullptr};
std::atomic<Gemm<double>> double_product{nullptr};

}  // namespace

Gemm<float> blas_sgemm() noexcept {
    return single_product.load(std::memory_order_acquire);
}

Gemm<double> blas_dgemm() noexcept {
    return double_product.load(std::memory_order_acquire);
}

void set_blas(Gemm<float> sgemm, Gemm<double> dgemm) noexcept {
    single_product.store(sgemm, std::memory_order_release);
    double_product.store(dgemm, std::memory_order_release);
}

}  // namespace hl
