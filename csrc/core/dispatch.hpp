// Which instruction-set level runs, decided once when the module is loaded.
#pragma once

#include <cstdint>

#include "config.hpp"

namespace hl {

enum class Isa : std::int32_t { base = 0, v3 = 1, v4 = 2 };

// The raw answers of CPUID and XGETBV that decide the level.
struct CpuRegisters {
    std::uint32_t leaf1_ecx;
    std::uint32_t leaf7_ebx;
    std::uint32_t extended1_ecx;
    std::uint64_t xcr0;
};

Isa isa_from_registers(const CpuRegisters& registers) noexcept;

// The highest level that the processor and the operating system support and that was compiled.
Isa detected_isa() noexcept;

// The level in use: detected_isa() unless HOTLOOPS_ISA lowers it.
Isa active_isa() noexcept;

const char* isa_name(Isa isa) noexcept;

// Null, or what is wrong with HOTLOOPS_ISA; the module refuses to load then.
const char* isa_error() noexcept;

}  // namespace hl

// A family declares the tables that its drivers define, and picks the active one:
//     HL_DECLARE_TABLES(SgdTable, sgd_table)
//     const SgdTable& table = HL_ACTIVE_TABLE(sgd_table);
// Only for files that are compiled once, such as bind.cpp. The table's type and the types it
// mentions live in hl itself, because every level shares them.
#if defined(HL_MULTI_ISA)
#define HL_DECLARE_TABLES(Type, name) \
    namespace hl {                    \
    inline namespace isa_base {       \
    extern const Type name;           \
    }                                 \
    namespace isa_v3 {                \
    extern const Type name;           \
    }                                 \
    namespace isa_v4 {                \
    extern const Type name;           \
    }                                 \
    }
#define HL_ACTIVE_TABLE(name)                                   \
    (::hl::active_isa() == ::hl::Isa::v4   ? ::hl::isa_v4::name \
     : ::hl::active_isa() == ::hl::Isa::v3 ? ::hl::isa_v3::name \
                                           : ::hl::isa_base::name)
#else
#define HL_DECLARE_TABLES(Type, name) \
    namespace hl {                    \
    inline namespace isa_base {       \
    extern const Type name;           \
    }                                 \
    }
#define HL_ACTIVE_TABLE(name) (::hl::isa_base::name)
#endif
