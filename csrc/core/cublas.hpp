// Matrix products on the device by cuBLAS, which is looked for at run time: nothing is linked, and
// a machine without it loses only what needs it.
#pragma once

#include <cstdint>

#include "cuda_launch.hpp"

namespace hl {

// C = A B, or C += A B, row-major: A (rows, depth), B (depth, columns). A transposed factor is
// stored as (depth, rows) or (columns, depth). Strides are from row to row, as stored.
template <class T>
struct DeviceProduct {
    std::int64_t rows, columns, depth;
    const T* a;
    std::int64_t a_stride;
    bool a_transposed;
    const T* b;
    std::int64_t b_stride;
    bool b_transposed;
    T* c;
    std::int64_t c_stride;
    bool adds;
};

// Queued on the call's stream, on the current device.
Status device_product(const DeviceProduct<float>& product, const CudaCall& call);
Status device_product(const DeviceProduct<double>& product, const CudaCall& call);

// Null when the library at `path` (a name or a full path) is there and complete, else why not.
// Later calls change nothing once one has succeeded.
const char* load_cublas(const char* path);

}  // namespace hl
