// Where the columns and parameters of an instruction lie.
#pragma once

#include "kernels.hpp"

namespace hl {
inline namespace HL_ISA_NAMESPACE {

// Columns [begin, begin + width) of a matrix in memory.
template <class T>
struct Columns {
    T* data;
    std::int64_t stride, width;

    HL_MEMBER T* row(std::int64_t r) const { return data + r * stride; }
    HL_MEMBER bool exists() const { return data != nullptr; }
};

template <class T>
HL_INLINE Columns<T> columns_of(const NnPass<T>& pass, T* const* slots, const NnOperand& operand) {
    if (operand.slot < 0 || slots[operand.slot] == nullptr) return {nullptr, 0, 0};
    return {slots[operand.slot] + operand.begin, pass.plan.program.widths[operand.slot],
            operand.width};
}

template <class T>
HL_INLINE Columns<T> values_of(const NnPass<T>& pass, const NnOperand& operand) {
    return columns_of(pass, pass.arena.values, operand);
}

template <class T>
HL_INLINE Columns<T> gradients_of(const NnPass<T>& pass, const NnOperand& operand) {
    return columns_of(pass, pass.arena.gradients, operand);
}

template <class T>
HL_INLINE const T* parameters_at(const NnPass<T>& pass, std::int64_t offset) {
    return offset < 0 ? nullptr : pass.parameters + offset;
}

template <class T>
HL_INLINE T* parameter_gradient_at(const NnPass<T>& pass, std::int64_t offset) {
    return offset < 0 ? nullptr : pass.parameter_gradient + offset;
}

}  // namespace HL_ISA_NAMESPACE
}  // namespace hl
