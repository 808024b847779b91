#include "cublas.hpp"

#include <dlfcn.h>

#include <mutex>

namespace hl {
namespace {

// The part of cuBLAS's C interface that is used; its numbers have been the same since version 6.
using Handle = void*;
constexpr int operation_none = 0, operation_transpose = 1;
constexpr int most_devices = 64;

template <class T>
using Gemm = int (*)(Handle, int, int, int, int, int, const T*, const T*, int, const T*, int,
                     const T*, T*, int);

struct Library {
    int (*create)(Handle*) = nullptr;
    int (*set_stream)(Handle, cudaStream_t) = nullptr;
    Gemm<float> sgemm = nullptr;
    Gemm<double> dgemm = nullptr;
    Handle handles[most_devices] = {};

    bool complete() const {
        return create != nullptr && set_stream != nullptr && sgemm != nullptr && dgemm != nullptr;
    }
};

// A handle serves one stream at a time. Neither it nor the library is ever given back: the driver
// may be gone before static objects are.
std::mutex guard;
Library library;

template <class F>
void find(void* file, const char* name, F& function) {
    function = reinterpret_cast<F>(dlsym(file, name));
}

Gemm<float> gemm(float) {
    return library.sgemm;
}
Gemm<double> gemm(double) {
    return library.dgemm;
}

Status failed(int code) {
    return {Code::cuda, code, "cuBLAS (the number is a cublasStatus_t)", -1};
}

Status handle_of_device(Handle& handle) {
    int device = 0;
    const cudaError_t error = cudaGetDevice(&device);
    if (error != cudaSuccess) return cuda_status("cudaGetDevice", error);
    if (device >= most_devices) return Status::internal("cuBLAS: too many devices");
    if (library.handles[device] == nullptr) {
        const int code = library.create(&library.handles[device]);
        if (code != 0) return failed(code);
    }
    handle = library.handles[device];
    return Status::success();
}

// cuBLAS counts columns first, so it is asked for the transposes: C' = B' A'.
template <class T>
Status multiply(const DeviceProduct<T>& p, const CudaCall& call) {
    if (p.rows == 0 || p.columns == 0) return Status::success();
    constexpr std::int64_t limit = 0x7fffffff;
    for (const std::int64_t size :
         {p.rows, p.columns, p.depth, p.a_stride, p.b_stride, p.c_stride}) {
        if (size > limit) return Status::invalid_argument("cuBLAS: a matrix is too large");
    }
    const std::lock_guard<std::mutex> lock(guard);
    if (!library.complete()) return Status::internal("cuBLAS has not been loaded");
    Handle handle = nullptr;
    const Status status = handle_of_device(handle);
    if (!status.ok()) return status;
    const int set = library.set_stream(handle, static_cast<cudaStream_t>(call.stream));
    if (set != 0) return failed(set);
    const T one = 1, old = p.adds ? T(1) : T(0);
    const int code =
        gemm(T{})(handle, p.b_transposed ? operation_transpose : operation_none,
                  p.a_transposed ? operation_transpose : operation_none,
                  static_cast<int>(p.columns), static_cast<int>(p.rows), static_cast<int>(p.depth),
                  &one, p.b, static_cast<int>(p.b_stride), p.a, static_cast<int>(p.a_stride), &old,
                  p.c, static_cast<int>(p.c_stride));
    return code == 0 ? Status::success() : failed(code);
}

}  // namespace

Status device_product(const DeviceProduct<float>& product, const CudaCall& call) {
    return multiply(product, call);
}
Status device_product(const DeviceProduct<double>& product, const CudaCall& call) {
    return multiply(product, call);
}

const char* load_cublas(const char* path) {
    const std::lock_guard<std::mutex> lock(guard);
    if (library.complete()) return nullptr;
    void* const file = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (file == nullptr) return "it cannot be loaded";
    find(file, "cublasCreate_v2", library.create);
    find(file, "cublasSetStream_v2", library.set_stream);
    find(file, "cublasSgemm_v2", library.sgemm);
    find(file, "cublasDgemm_v2", library.dgemm);
    return library.complete() ? nullptr : "it lacks functions of cuBLAS";
}

}  // namespace hl
