// What every kernel returns. Kernels never throw; the binding turns a Status into a Python
// exception.
#pragma once

#include <cstdint>

#include "config.hpp"

namespace hl {

// The numbers are documented and never reused.
enum class Code : std::int32_t {
    ok = 0,
    interrupted = 1,
    out_of_memory = 2,
    invalid_argument = 3,
    user_function = 4,
    internal = 5,
    cuda = 6,
    numerical = 7,
};

struct Status {
    Code code;
    std::int32_t detail;  // user_function: what the function returned; cuda: the cudaError_t;
                          // numerical: the kernel's own reason
    const char* where;    // a string literal: the kernel, and what went wrong when the code alone
                          // does not say
    std::int64_t index;   // the row that failed, -1 when none can be named

    HL_MEMBER constexpr bool ok() const { return code == Code::ok; }

    static HL_MEMBER constexpr Status success() { return {Code::ok, 0, "", -1}; }
    static HL_MEMBER constexpr Status interrupted(const char* where) {
        return {Code::interrupted, 0, where, -1};
    }
    static HL_MEMBER constexpr Status out_of_memory(const char* where) {
        return {Code::out_of_memory, 0, where, -1};
    }
    static HL_MEMBER constexpr Status invalid_argument(const char* where, std::int64_t index = -1) {
        return {Code::invalid_argument, 0, where, index};
    }
    static HL_MEMBER constexpr Status user_function(const char* where, std::int32_t returned,
                                                    std::int64_t index) {
        return {Code::user_function, returned, where, index};
    }
    static HL_MEMBER constexpr Status internal(const char* where, std::int64_t index = -1) {
        return {Code::internal, 0, where, index};
    }
    static HL_MEMBER constexpr Status numerical(const char* where, std::int32_t reason,
                                                std::int64_t index) {
        return {Code::numerical, reason, where, index};
    }
    static HL_MEMBER constexpr Status cuda(const char* where, std::int32_t error) {
        return {Code::cuda, error, where, -1};
    }
};

}  // namespace hl
