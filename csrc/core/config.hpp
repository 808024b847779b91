// Compiler macros and the namespace of the instruction-set level that this translation unit is
// compiled for.
#pragma once

// HL_INLINE is for free functions, HL_MEMBER for member functions. Both are always inlined: a
// function that is emitted from an object compiled for AVX-512 as a weak symbol could be picked by
// the linker for every level.
#if defined(__CUDACC__)
#define HL_HD __host__ __device__
#define HL_INLINE static __forceinline__ __host__ __device__
#define HL_MEMBER __forceinline__ __host__ __device__
#else
#define HL_HD
#define HL_INLINE static inline __attribute__((always_inline))
#define HL_MEMBER inline __attribute__((always_inline))
#endif

// Static functions that several kernels of an object share, and that are called rarely.
#define HL_NOINLINE __attribute__((noinline))

#define HL_RESTRICT __restrict__
#define HL_LIKELY(condition) __builtin_expect(static_cast<bool>(condition), 1)
#define HL_UNLIKELY(condition) __builtin_expect(static_cast<bool>(condition), 0)

// The build defines exactly one of these for a driver object; every other file belongs to the base
// level.
#if defined(HL_ISA_V4)
#define HL_LANE_BYTES 64
#elif defined(HL_ISA_V3)
#define HL_LANE_BYTES 32
#else
#define HL_LANE_BYTES 16
#endif

// Where one level is all there is, it stands in the place of the base level.
#if defined(HL_ISA_V4) && !defined(HL_ONLY_ISA)
#define HL_ISA_NAMESPACE isa_v4
#elif defined(HL_ISA_V3) && !defined(HL_ONLY_ISA)
#define HL_ISA_NAMESPACE isa_v3
#else
#define HL_ISA_NAMESPACE isa_base
#endif

// Headers that drivers share put their code in this namespace, so that each level has its own copy:
//     namespace hl { inline namespace HL_ISA_NAMESPACE { ... } }
namespace hl {
inline namespace HL_ISA_NAMESPACE {}
}  // namespace hl
