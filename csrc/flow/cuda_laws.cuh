// One block of words for each law, and the columns that it serves. `first` and `second` give the
// parameters of a column.
#pragma once

#include "../core/cuda_device.cuh"
#include "step_counts.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

struct NegativeBinomial {
    static constexpr int columns = 2;
    template <class First, class Second>
    static HL_DEVICE_MEMBER void draw(const CountAddress& at, std::int64_t block,
                                      std::int64_t count, const First& first, const Second& second,
                                      std::int32_t* out) {
        const auto words = count_words(at, 0, static_cast<std::uint64_t>(block));
        for (int i = 0; i < count; ++i) {
            const std::int64_t column = 2 * block + i;
            const double v = uniform_53<double>(words.word[2 * i], words.word[2 * i + 1]);
            out[i] = negative_binomial_count(at, static_cast<std::uint64_t>(column), v,
                                             first(column), second(column));
        }
    }
};

struct Poisson {
    static constexpr int columns = 2;
    template <class First, class Second>
    static HL_DEVICE_MEMBER void draw(const CountAddress& at, std::int64_t block,
                                      std::int64_t count, const First& first, const Second&,
                                      std::int32_t* out) {
        const auto words = count_words(at, 0, static_cast<std::uint64_t>(block));
        for (int i = 0; i < count; ++i) {
            const std::int64_t column = 2 * block + i;
            const double v = uniform_53<double>(words.word[2 * i], words.word[2 * i + 1]);
            out[i] = poisson_count(at, static_cast<std::uint64_t>(column), v, first(column));
        }
    }
};

struct Bernoulli {
    static constexpr int columns = 4;
    template <class First, class Second>
    static HL_DEVICE_MEMBER void draw(const CountAddress& at, std::int64_t block,
                                      std::int64_t count, const First& first, const Second&,
                                      std::int32_t* out) {
        const auto words = count_words(at, bernoulli_attempt, static_cast<std::uint64_t>(block));
        for (int i = 0; i < count; ++i)
            out[i] = uniform<double>(words.word[i]) < first(4 * block + i) ? 1 : 0;
    }
};

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
