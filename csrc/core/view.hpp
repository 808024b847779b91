// Non-owning row-major views.
#pragma once

#include <cstdint>

#include "config.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

template <class T>
struct Vector {
    T* data;
    std::int64_t size;

    HL_MEMBER constexpr T& operator[](std::int64_t i) const { return data[i]; }
    HL_MEMBER constexpr T* begin() const { return data; }
    HL_MEMBER constexpr T* end() const { return data + size; }
    HL_MEMBER constexpr Vector part(std::int64_t first, std::int64_t last) const {
        return {data + first, last - first};
    }
};

template <class T>
struct Matrix {
    T* data;
    std::int64_t rows;
    std::int64_t columns;

    HL_MEMBER constexpr T& operator()(std::int64_t i, std::int64_t j) const {
        return data[i * columns + j];
    }
    HL_MEMBER constexpr Vector<T> row(std::int64_t i) const {
        return {data + i * columns, columns};
    }
    HL_MEMBER constexpr std::int64_t size() const { return rows * columns; }
};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
