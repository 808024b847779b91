// The passes around the products: what is added to a product and its activation in one go, and on
// the way back the slope, the sums over rows and what the addend gets.
#pragma once

#include "cpu.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

template <class T>
struct Finish {
    Columns<T> output, addend, pre;
    const T* bias;
    NnActivation activation;
};

template <class T>
HL_INLINE Finish<T> finish_of(const NnPass<T>& pass, const NnInstruction& it) {
    return {values_of(pass, it.output), values_of(pass, it.addend), values_of(pass, it.pre),
            parameters_at(pass, it.bias), static_cast<NnActivation>(it.activation)};
}

// output = f(output + bias + addend) on a rectangle.
template <class T>
HL_INLINE void finish_rows(const Finish<T>& finish, std::int64_t first, std::int64_t last,
                           std::int64_t begin, std::int64_t end) {
    if (finish.activation == NnActivation::identity && finish.bias == nullptr &&
        !finish.addend.exists() && !finish.pre.exists())
        return;
    with_activation(finish.activation, [&](auto activation) {
        for (std::int64_t r = first; r < last; ++r) {
            T* const y = finish.output.row(r);
            const T* const addend = finish.addend.exists() ? finish.addend.row(r) : nullptr;
            T* const pre = finish.pre.exists() ? finish.pre.row(r) : nullptr;
            for_columns<T>(begin, end, [&](auto pack, std::int64_t j) {
                using V = decltype(pack);
                V x = load<V>(y + j);
                if (finish.bias != nullptr) x = x + load<V>(finish.bias + j);
                if (addend != nullptr) x = x + load<V>(addend + j);
                if (pre != nullptr) store(pre + j, x);
                store(y + j, activation.value(x));
            });
        }
    });
}

// gradient *= f' on a rectangle; `argument` is where f's argument was kept, if it is needed.
template <class T>
HL_INLINE void slope_rows(Columns<T> gradient, Columns<T> argument, Columns<T> output,
                          NnActivation kind, std::int64_t first, std::int64_t last,
                          std::int64_t begin, std::int64_t end) {
    if (kind == NnActivation::identity) return;
    const Columns<T> x = slope_reads_argument(kind) ? argument : output;
    with_activation(kind, [&](auto activation) {
        for (std::int64_t r = first; r < last; ++r) {
            T* const g = gradient.row(r);
            const T* const source = x.row(r);
            for_columns<T>(begin, end, [&](auto pack, std::int64_t j) {
                using V = decltype(pack);
                const V s = load<V>(source + j);
                store(g + j, V(load<V>(g + j) * activation.slope(s, s)));
            });
        }
    });
}

// Sums over rows are made of the sums of this many, so that rounding grows slowly.
constexpr std::int64_t rows_per_sum = 64;

template <class T>
HL_INLINE void sum_rows(Columns<T> x, std::int64_t rows, std::int64_t begin, std::int64_t end,
                        bool adds, T* sums) {
    for_columns<T>(begin, end, [&](auto pack, std::int64_t j) {
        using V = decltype(pack);
        V total = adds ? load<V>(sums + j) : V{};
        for (std::int64_t first = 0; first < rows; first += rows_per_sum) {
            const std::int64_t last = smaller(first + rows_per_sum, rows);
            V part{};
            for (std::int64_t r = first; r < last; ++r)
                part = part + load<V>(x.row(r) + j);
            total = total + part;
        }
        store(sums + j, total);
    });
}

// target = source, or target += source.
template <class T>
HL_INLINE void give_rows(Columns<T> source, Columns<T> target, bool adds, std::int64_t first,
                         std::int64_t last, std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = first; r < last; ++r) {
        const T* const from = source.row(r);
        T* const to = target.row(r);
        for_columns<T>(begin, end, [&](auto pack, std::int64_t j) {
            using V = decltype(pack);
            const V x = load<V>(from + j);
            store(to + j, V(adds ? load<V>(to + j) + x : x));
        });
    }
}

// The gradient of an instruction's output becomes that of f's argument; the bias and the addend
// take their share.
template <class T>
HL_INLINE Status unfinish(const NnPass<T>& pass, const NnInstruction& it, const NnDuty& duty) {
    const Columns<T> gradient = gradients_of(pass, it.output);
    const Columns<T> output = values_of(pass, it.output), pre = values_of(pass, it.pre);
    const Columns<T> addend = duty.needs_addend ? gradients_of(pass, it.addend) : Columns<T>{};
    const NnActivation kind = static_cast<NnActivation>(it.activation);
    T* const bias = parameter_gradient_at(pass, it.bias);
    if (kind == NnActivation::identity && bias == nullptr && !addend.exists())
        return Status::success();
    const std::int64_t width = it.output.width;
    return over_tasks(parts(width, columns_per_task), 8 * product_of(pass.rows, width),
                      pass.num_threads, [&](std::int64_t task) {
                          const std::int64_t begin = task * columns_per_task;
                          const std::int64_t end = smaller(begin + columns_per_task, width);
                          slope_rows(gradient, pre, output, kind, 0, pass.rows, begin, end);
                          if (bias != nullptr)
                              sum_rows(gradient, pass.rows, begin, end, duty.adds_bias, bias);
                          if (addend.exists())
                              give_rows(gradient, addend, duty.adds_addend, 0, pass.rows, begin,
                                        end);
                      });
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
