// Vectors of one thread in memory that all threads of a grid share: number i of thread t lies at
// i * threads + t, so that neighbouring threads touch neighbouring memory.
#pragma once

#include "../core/cuda_device.cuh"
#include "step.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

template <class T>
struct Lane {
    T* base;
    std::int64_t stride;

    HL_MEMBER T& operator[](std::int64_t i) const { return base[i * stride]; }
    HL_MEMBER Lane from(std::int64_t i) const { return {base + i * stride, stride}; }
};

// Hands out the lanes of one thread; with no memory behind it, it counts them.
template <class T>
struct Shelf {
    double* doubles;
    T* reals;
    std::int64_t threads;
    std::int64_t num_doubles = 0, num_reals = 0;

    HL_MEMBER Lane<double> take_doubles(std::int64_t count) {
        const Lane<double> lane{doubles + num_doubles * threads, threads};
        num_doubles += count;
        return lane;
    }
    HL_MEMBER Lane<T> take(std::int64_t count) {
        const Lane<T> lane{reals + num_reals * threads, threads};
        num_reals += count;
        return lane;
    }
    HL_MEMBER std::int64_t bytes() const {
        return num_doubles * static_cast<std::int64_t>(sizeof(double)) +
               num_reals * static_cast<std::int64_t>(sizeof(T));
    }
};

// `dot` of anything that has [].
template <class T, class A, class B>
HL_DEVICE T dot_of(std::int64_t n, const A& a, const B& b) {
    Dot<T> sum;
    std::int64_t k = 0;
    for (; k + 4 <= n; k += 4) {
        for (int s = 0; s < 4; ++s)
            sum.strand[s] += a[k + s] * b[k + s];
    }
    for (int s = 0; s < 3; ++s) {
        if (k + s < n) sum.strand[s] += a[k + s] * b[k + s];
    }
    return sum.total();
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
