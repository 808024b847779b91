// The level follows from every bit that its psABI definition names, and from nothing else.
#include <cstdint>
#include <initializer_list>

#include "check.hpp"
#include "core/dispatch.hpp"

namespace {

using hl::CpuRegisters;
using hl::Isa;

std::uint32_t bits(std::initializer_list<int> positions) {
    std::uint32_t value = 0;
    for (const int position : positions)
        value |= std::uint32_t{1} << position;
    return value;
}

const std::initializer_list<int> leaf1 = {0, 9, 12, 13, 19, 20, 22, 23, 27, 28, 29};
const std::initializer_list<int> leaf7_v3 = {3, 5, 8};
const std::initializer_list<int> leaf7_v4 = {16, 17, 28, 30, 31};
const std::initializer_list<int> extended1 = {0, 5};
const std::initializer_list<int> saved_v3 = {1, 2};
const std::initializer_list<int> saved_v4 = {5, 6, 7};

CpuRegisters registers_v3() {
    return {bits(leaf1), bits(leaf7_v3), bits(extended1), bits(saved_v3)};
}

CpuRegisters registers_v4() {
    CpuRegisters registers = registers_v3();
    registers.leaf7_ebx |= bits(leaf7_v4);
    registers.xcr0 |= bits(saved_v4);
    return registers;
}

template <class Field>
void each_bit_matters(std::initializer_list<int> positions, Field CpuRegisters::* field,
                      Isa without) {
    for (const int position : positions) {
        CpuRegisters registers = registers_v4();
        registers.*field &= ~(Field{1} << position);
        CHECK(hl::isa_from_registers(registers) == without);
    }
}

}  // namespace

int main() {
    CHECK(hl::isa_from_registers(CpuRegisters{}) == Isa::base);
    CHECK(hl::isa_from_registers(registers_v3()) == Isa::v3);
    CHECK(hl::isa_from_registers(registers_v4()) == Isa::v4);
    CHECK(hl::isa_from_registers({~0u, ~0u, ~0u, ~std::uint64_t{0}}) == Isa::v4);
    each_bit_matters(leaf1, &CpuRegisters::leaf1_ecx, Isa::base);
    each_bit_matters(leaf7_v3, &CpuRegisters::leaf7_ebx, Isa::base);
    each_bit_matters(extended1, &CpuRegisters::extended1_ecx, Isa::base);
    each_bit_matters(saved_v3, &CpuRegisters::xcr0, Isa::base);
    each_bit_matters(leaf7_v4, &CpuRegisters::leaf7_ebx, Isa::v3);
    each_bit_matters(saved_v4, &CpuRegisters::xcr0, Isa::v3);
    return 0;
}
