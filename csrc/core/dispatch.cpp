#include "dispatch.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#if defined(HL_MULTI_ISA) || defined(HL_ONLY_ISA)
#include <cpuid.h>
#endif

namespace hl {
namespace {

constexpr std::uint32_t bit(int position) {
    return std::uint32_t{1} << position;
}

constexpr bool has_all(std::uint64_t value, std::uint64_t wanted) {
    return (value & wanted) == wanted;
}

// Intel SDM volume 2, CPUID; the levels are those of the x86-64 psABI.
constexpr std::uint32_t v3_leaf1_ecx = bit(0) | bit(9) | bit(12) | bit(13) |
                                       bit(19) |                      // SSE3 SSSE3 FMA CX16 SSE4.1
                                       bit(20) | bit(22) | bit(23) |  // SSE4.2 MOVBE POPCNT
                                       bit(27) | bit(28) | bit(29);   // OSXSAVE AVX F16C
constexpr std::uint32_t v3_leaf7_ebx = bit(3) | bit(5) | bit(8);      // BMI1 AVX2 BMI2
constexpr std::uint32_t v3_extended1_ecx = bit(0) | bit(5);           // LAHF LZCNT
constexpr std::uint32_t v4_leaf7_ebx =
    bit(16) | bit(17) | bit(28) | bit(30) | bit(31);  // AVX-512 F DQ CD BW VL
constexpr std::uint64_t xcr0_ymm = 0x06;  // XMM and YMM state saved by the operating system
constexpr std::uint64_t xcr0_zmm = 0xe6;  // and opmask, upper ZMM, high ZMM

#if defined(HL_MULTI_ISA) || defined(HL_ONLY_ISA)
std::uint64_t read_xcr0() noexcept {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (static_cast<std::uint64_t>(high) << 32) | low;
}

CpuRegisters read_registers() noexcept {
    CpuRegisters registers{};
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid(1, &a, &b, &c, &d) != 0) registers.leaf1_ecx = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0) registers.leaf7_ebx = b;
    if (__get_cpuid(0x80000001u, &a, &b, &c, &d) != 0) registers.extended1_ecx = c;
    if (has_all(registers.leaf1_ecx, bit(27))) registers.xcr0 = read_xcr0();
    return registers;
}
#else
CpuRegisters read_registers() noexcept {
    return CpuRegisters{};
}
#endif

struct Choice {
    Isa detected = Isa::base;
    Isa active = Isa::base;
    char error[160] = "";
};

#if defined(HL_ONLY_ISA)
void settle(Choice& choice, const char* wanted) noexcept {
    constexpr Isa only = Isa::HL_ONLY_ISA;
    if (choice.detected < only) {
        std::snprintf(choice.error, sizeof choice.error,
                      "hotloops was compiled for %s only, and this processor has no more than %s",
                      isa_name(only), isa_name(choice.detected));
    } else if (wanted != nullptr && std::strcmp(wanted, isa_name(only)) != 0) {
        std::snprintf(choice.error, sizeof choice.error,
                      "HOTLOOPS_ISA is '%.60s', but hotloops was compiled for %s only", wanted,
                      isa_name(only));
    }
    choice.active = only;
}
#else
void settle(Choice& choice, const char* wanted) noexcept {
    choice.active = choice.detected;
    if (wanted == nullptr) return;
    for (const Isa isa : {Isa::base, Isa::v3, Isa::v4}) {
        if (std::strcmp(wanted, isa_name(isa)) != 0) continue;
        choice.active = isa;
        if (isa <= choice.detected) return;
        std::snprintf(choice.error, sizeof choice.error,
                      "HOTLOOPS_ISA=%s is above the level of this processor, which is %s", wanted,
                      isa_name(choice.detected));
        return;
    }
    std::snprintf(choice.error, sizeof choice.error,
                  "HOTLOOPS_ISA must be base, v3 or v4, got '%.60s'", wanted);
}
#endif

Choice choose() noexcept {
    Choice choice;
    choice.detected = isa_from_registers(read_registers());
    const char* wanted = std::getenv("HOTLOOPS_ISA");
    settle(choice, wanted == nullptr || *wanted == '\0' ? nullptr : wanted);
    return choice;
}

const Choice choice = choose();

}  // namespace

Isa isa_from_registers(const CpuRegisters& registers) noexcept {
    const bool v3 =
        has_all(registers.leaf1_ecx, v3_leaf1_ecx) && has_all(registers.leaf7_ebx, v3_leaf7_ebx) &&
        has_all(registers.extended1_ecx, v3_extended1_ecx) && has_all(registers.xcr0, xcr0_ymm);
    if (!v3) return Isa::base;
    const bool v4 = has_all(registers.leaf7_ebx, v4_leaf7_ebx) && has_all(registers.xcr0, xcr0_zmm);
    return v4 ? Isa::v4 : Isa::v3;
}

Isa detected_isa() noexcept {
    return choice.detected;
}

Isa active_isa() noexcept {
    return choice.active;
}

const char* isa_name(Isa isa) noexcept {
    switch (isa) {
        case Isa::v3:
            return "v3";
        case Isa::v4:
            return "v4";
        default:
            return "base";
    }
}

const char* isa_error() noexcept {
    return choice.error[0] == '\0' ? nullptr : choice.error;
}

}  // namespace hl
