# Compiler flags, and the instruction-set levels that drivers are compiled for.
include(CheckCXXSourceCompiles)

if(NOT CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    message(FATAL_ERROR "hotloops needs gcc >= 12 or clang >= 14, got ${CMAKE_CXX_COMPILER_ID}")
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
    message(FATAL_ERROR "hotloops needs gcc >= 12, got ${CMAKE_CXX_COMPILER_VERSION}")
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
    message(FATAL_ERROR "hotloops needs clang >= 14, got ${CMAKE_CXX_COMPILER_VERSION}")
endif()

set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
# Link-time optimisation would move code between the instruction-set levels.
set(CMAKE_INTERPROCEDURAL_OPTIMIZATION OFF)

# Results must not depend on the compiler: no contraction, and never -ffast-math, which also changes
# the floating-point mode of the process that loads the library.
set(HOTLOOPS_MATH_FLAGS -fno-math-errno -fno-trapping-math -ffp-contract=off)
set(HOTLOOPS_WARNING_FLAGS -Wall -Wextra -Wconversion -Wshadow)
if(HOTLOOPS_WERROR)
    list(APPEND HOTLOOPS_WARNING_FLAGS -Werror)
endif()

set(HOTLOOPS_SANITIZE_FLAGS "")
# Bindings only read arguments, and at -O1 their templates compile in three quarters of the time.
set(HOTLOOPS_BINDING_FLAGS -O1)
# -O0: with the sanitizers' checks the higher levels take minutes to compile.
if(HOTLOOPS_SANITIZE)
    set(HOTLOOPS_SANITIZE_FLAGS -fsanitize=${HOTLOOPS_SANITIZE} -fno-omit-frame-pointer -g1 -O0)
    set(HOTLOOPS_BINDING_FLAGS "")
    if(HOTLOOPS_SANITIZE MATCHES "undefined")
        list(APPEND HOTLOOPS_SANITIZE_FLAGS -fno-sanitize-recover=undefined)
        # UBSan doubles the time that the templates of pybind11 take to compile.
        list(APPEND HOTLOOPS_BINDING_FLAGS -fno-sanitize=undefined)
    endif()
endif()

# All C++ of the project is compiled and linked through this target.
add_library(hotloops_flags INTERFACE)
target_include_directories(hotloops_flags INTERFACE "${PROJECT_SOURCE_DIR}/csrc")
target_compile_options(hotloops_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:${HOTLOOPS_MATH_FLAGS} ${HOTLOOPS_WARNING_FLAGS}>
    $<$<COMPILE_LANGUAGE:CXX>:${HOTLOOPS_SANITIZE_FLAGS}>)
target_link_options(hotloops_flags INTERFACE ${HOTLOOPS_SANITIZE_FLAGS})

set(HOTLOOPS_ISA_LEVELS base)
set(HOTLOOPS_ISA_FLAGS_base "")
set(HOTLOOPS_ISA_FLAGS_v3 -march=x86-64-v3)
set(HOTLOOPS_ISA_FLAGS_v4 -march=x86-64-v4 -mprefer-vector-width=512)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
    # gcc's own AVX-512 header sets off these warnings (GCC bug 105593), the second under sanitizers.
    list(APPEND HOTLOOPS_ISA_FLAGS_v4 -Wno-maybe-uninitialized -Wno-uninitialized)
endif()
check_cxx_source_compiles(
    "#if !defined(__x86_64__)\n#error\n#endif\nint main() { return 0; }" HOTLOOPS_X86_64)
if(HOTLOOPS_X86_64 AND HOTLOOPS_ISA_LEVEL STREQUAL "ALL")
    set(HOTLOOPS_ISA_LEVELS base v3 v4)
    target_compile_definitions(hotloops_flags INTERFACE HL_MULTI_ISA)
elseif(HOTLOOPS_X86_64)
    set(HOTLOOPS_ISA_LEVELS ${HOTLOOPS_ISA_LEVEL})
    target_compile_definitions(hotloops_flags INTERFACE HL_ONLY_ISA=${HOTLOOPS_ISA_LEVEL})
elseif(NOT HOTLOOPS_ISA_LEVEL MATCHES "^(ALL|base)$")
    message(FATAL_ERROR "HOTLOOPS_ISA_LEVEL=${HOTLOOPS_ISA_LEVEL} is for x86-64 only")
endif()
