// The matrix products of the BLAS that SciPy carries: the face hands over their addresses, and
// nothing is linked. Fortran's conventions: columns first, everything by pointer.
#pragma once

namespace hl {

template <class T>
using Gemm = void (*)(const char* transpose_a, const char* transpose_b, const int* m, const int* n,
                      const int* k, const T* alpha, const T* a, const int* lda, const T* b,
                      const int* ldb, const T* beta, T* c, const int* ldc);

// Null until set_blas was called.
Gemm<float> blas_sgemm() noexcept;
Gemm<double> blas_dgemm() noexcept;

void set_blas(Gemm<float> sgemm, Gemm<double> dgemm) noexcept;

}  // namespace hl
