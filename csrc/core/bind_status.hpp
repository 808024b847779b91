// From Status to a Python exception. For binding files only; call it with the GIL held.
#pragma once

#include <pybind11/pybind11.h>

#include <exception>
#include <string>

#include "status.hpp"

namespace hl {

inline void require(bool condition, const char* message) {
    if (!condition) throw pybind11::value_error(message);
}

struct StatusError {
    Status status;
};

inline std::string describe(const Status& status) {
    std::string text = status.where;
    if (status.code == Code::user_function) {
        text += ": the user's function returned " + std::to_string(status.detail);
    } else if (status.code == Code::cuda) {
        text += ": CUDA error " + std::to_string(status.detail);
    } else if (status.code == Code::out_of_memory) {
        text += ": out of memory";
    }
    if (status.index >= 0) text += " at index " + std::to_string(status.index);
    return text + " (status " + std::to_string(static_cast<int>(status.code)) + ")";
}

inline void set_python_error(const Status& status) {
    switch (status.code) {
        case Code::interrupted:
            PyErr_SetNone(PyExc_KeyboardInterrupt);
            break;
        case Code::out_of_memory:
            pybind11::set_error(PyExc_MemoryError, describe(status).c_str());
            break;
        case Code::invalid_argument:
            pybind11::set_error(PyExc_ValueError, describe(status).c_str());
            break;
        default:
            pybind11::set_error(PyExc_RuntimeError, describe(status).c_str());
    }
}

// Returns when the status is ok. An interrupted job has its exception set already, by the signal
// handler that the hook ran.
inline void throw_status(const Status& status) {
    if (status.ok()) return;
    if (status.code == Code::interrupted && PyErr_Occurred() != nullptr) {
        throw pybind11::error_already_set();
    }
    throw StatusError{status};
}

// Each extension module calls this once: exception types are not shared between modules that carry
// their own C++ runtime.
inline void register_status_translator() {
    pybind11::register_local_exception_translator([](std::exception_ptr pointer) {
        try {
            if (pointer) std::rethrow_exception(pointer);
        } catch (const StatusError& error) {
            set_python_error(error.status);
        }
    });
}

}  // namespace hl
