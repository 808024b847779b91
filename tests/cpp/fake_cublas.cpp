// The part of cuBLAS that csrc/core/cublas.cpp calls, in host memory, for the tests over the shim.
#include <cstdint>

namespace {

// Column-major C = alpha op(A) op(B) + beta C.
template <class T>
int gemm(int transpose_a, int transpose_b, int m, int n, int k, const T* alpha, const T* a, int lda,
         const T* b, int ldb, const T* beta, T* c, int ldc) {
    const auto at = [](const T* matrix, int leading, int i, int j) {
        return matrix[i + static_cast<std::int64_t>(j) * leading];
    };
    for (int j = 0; j < n; ++j) {
        for (int i = 0; i < m; ++i) {
            T sum = 0;
            for (int l = 0; l < k; ++l)
                sum += (transpose_a != 0 ? at(a, lda, l, i) : at(a, lda, i, l)) *
                       (transpose_b != 0 ? at(b, ldb, j, l) : at(b, ldb, l, j));
            T& target = c[i + static_cast<std::int64_t>(j) * ldc];
            target = *alpha * sum + (*beta != 0 ? *beta * target : T(0));
        }
    }
    return 0;
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

int cublasCreate_v2(void** handle) {
    static int anything = 0;
    *handle = &anything;
    return 0;
}

int cublasSetStream_v2(void*, void*) {
    return 0;
}

int cublasSgemm_v2(void*, int ta, int tb, int m, int n, int k, const float* alpha, const float* a,
                   int lda, const float* b, int ldb, const float* beta, float* c, int ldc) {
    return gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

int cublasDgemm_v2(void*, int ta, int tb, int m, int n, int k, const double* alpha, const double* a,
                   int lda, const double* b, int ldb, const double* beta, double* c, int ldc) {
    return gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
}
