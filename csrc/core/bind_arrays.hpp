// Arrays as the bindings take them: contiguous, and never converted where an argument says so.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>

#include "bind_status.hpp"

namespace hl {

template <class T>
using Array = pybind11::array_t<T, pybind11::array::c_style>;
template <class T>
using OptionalArray = std::optional<Array<T>>;

template <class T>
const T* data_or_null(const OptionalArray<T>& array) {
    return array ? array->data() : nullptr;
}

template <class T>
T* mutable_or_null(OptionalArray<T>& array) {
    return array ? array->mutable_data() : nullptr;
}

}  // namespace hl
