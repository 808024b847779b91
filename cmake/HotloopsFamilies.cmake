# What a family's folder may hold, and what becomes of it:
#   cpu*.cpp         compiled once per instruction-set level, into _core
#   bind.cpp, bind_*.cpp (but not bind_cuda*)  compiled once, into _core
#   cuda*.cu, bind_cuda*.cpp                   into _cuda, when that is built
#   step*.hpp, *kernels.hpp, program.hpp, custom*.cuh and what those include   installed with the headers of the package

set(HOTLOOPS_DRIVER_LIST "${CMAKE_CURRENT_BINARY_DIR}/driver_objects.txt")

# Only the file that reports these facts sees them: what else has been compiled with other options stays as it is.
function(hotloops_describe_build source)
    string(JOIN " " flags ${HOTLOOPS_MATH_FLAGS} ${HOTLOOPS_SANITIZE_FLAGS})
    string(JOIN " " architectures ${HOTLOOPS_CUDA_TARGETS})
    set(cuda "")
    if(HOTLOOPS_WITH_CUDA)
        set(cuda "nvcc ${CMAKE_CUDA_COMPILER_VERSION}")
    endif()
    set_property(SOURCE ${source} APPEND PROPERTY COMPILE_DEFINITIONS
        "HL_VERSION=\"${PROJECT_VERSION}\""
        "HL_COMPILER=\"${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}\""
        "HL_FLAGS=\"${flags}\""
        "HL_BUILD_TYPE=\"${CMAKE_BUILD_TYPE}\""
        "HL_SANITIZER=\"${HOTLOOPS_SANITIZE}\""
        "HL_CUDA_COMPILER=\"${cuda}\""
        "HL_CUDA_ARCHITECTURES=\"${architectures}\"")
endfunction()

# A module exports its entry point and the two names for threadpoolctl. Without this the templates of the
# standard library that it instantiates could stand in for those of another library.
function(hotloops_limit_exports target)
    if(CMAKE_EXECUTABLE_FORMAT STREQUAL "ELF")
        set(map "${PROJECT_SOURCE_DIR}/cmake/exports.map")
        target_link_options(${target} PRIVATE "LINKER:--version-script=${map}")
        set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS "${map}")
    endif()
endfunction()

# Most of the time that bindings take to compile goes into pybind11's templates, so that those of a family, and
# of all small families, are one translation unit: a third of the time for all.
function(hotloops_group_bindings group)
    set_source_files_properties(${ARGN} PROPERTIES UNITY_GROUP ${group})
endfunction()

# The parts of the core that need no Python: the C++ tests link them too.
function(hotloops_add_core)
    find_package(Threads REQUIRED)
    add_library(hotloops_core OBJECT
        csrc/core/blas.cpp csrc/core/dispatch.cpp csrc/core/finite.cpp csrc/core/pool.cpp
        csrc/core/threads.cpp)
    target_link_libraries(hotloops_core PUBLIC hotloops_flags Threads::Threads)

    pybind11_add_module(_core MODULE NO_EXTRAS
        csrc/module.cpp csrc/core/bind.cpp csrc/core/bind_test_hooks.cpp)
    target_link_libraries(_core PRIVATE hotloops_core)
    target_compile_options(_core PRIVATE ${HOTLOOPS_BINDING_FLAGS})
    set_target_properties(_core PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
    hotloops_group_bindings(small csrc/module.cpp csrc/core/bind_test_hooks.cpp)
    hotloops_describe_build(csrc/core/bind.cpp)
    hotloops_limit_exports(_core)
    install(TARGETS _core LIBRARY DESTINATION hotloops)

    if(HOTLOOPS_WITH_CUDA)
        pybind11_add_module(_cuda MODULE NO_EXTRAS
            csrc/module_cuda.cpp csrc/core/bind_cuda.cpp csrc/core/cublas.cpp)
        target_link_libraries(_cuda PRIVATE hotloops_flags CUDA::cudart_static ${CMAKE_DL_LIBS})
        set_target_properties(_cuda PROPERTIES CUDA_ARCHITECTURES "${HOTLOOPS_CUDA_TARGETS}"
            UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
        hotloops_group_bindings(cuda_small csrc/module_cuda.cpp csrc/core/cublas.cpp)
        hotloops_describe_build(csrc/core/bind_cuda.cpp)
        hotloops_limit_exports(_cuda)
        install(TARGETS _cuda LIBRARY DESTINATION hotloops)
    endif()
endfunction()

function(hotloops_add_drivers name)
    file(GLOB drivers CONFIGURE_DEPENDS csrc/${name}/cpu*.cpp)
    if(NOT drivers)
        message(FATAL_ERROR "csrc/${name} has no driver cpu*.cpp")
    endif()
    foreach(level IN LISTS HOTLOOPS_ISA_LEVELS)
        set(target hotloops_${name}_${level})
        string(TOUPPER "HL_ISA_${level}" definition)
        add_library(${target} OBJECT ${drivers})
        target_link_libraries(${target} PRIVATE hotloops_flags)
        target_compile_options(${target} PRIVATE ${HOTLOOPS_ISA_FLAGS_${level}})
        target_compile_definitions(${target} PRIVATE ${definition})
        target_link_libraries(_core PRIVATE ${target})
        set_property(GLOBAL APPEND PROPERTY HOTLOOPS_DRIVER_OBJECTS
            "${level}|$<JOIN:$<TARGET_OBJECTS:${target}>,\n${level}|>")
    endforeach()
endfunction()

function(hotloops_add_family name)
    hotloops_add_drivers(${name})

    file(GLOB bindings CONFIGURE_DEPENDS csrc/${name}/bind*.cpp)
    set(cuda_bindings ${bindings})
    list(FILTER cuda_bindings INCLUDE REGEX "/bind_cuda[^/]*$")
    list(FILTER bindings EXCLUDE REGEX "/bind_cuda[^/]*$")
    target_sources(_core PRIVATE ${bindings})
    set(group ${name})
    if(name MATCHES "^(prox|random)$")
        set(group small)
    endif()
    hotloops_group_bindings(${group} ${bindings})

    if(HOTLOOPS_WITH_CUDA)
        file(GLOB kernels CONFIGURE_DEPENDS csrc/${name}/cuda*.cu)
        target_sources(_cuda PRIVATE ${cuda_bindings} ${kernels})
        hotloops_group_bindings(cuda_${group} ${cuda_bindings})
    endif()

    install(DIRECTORY csrc/${name} DESTINATION hotloops/include/hotloops
        FILES_MATCHING PATTERN "step*.hpp" PATTERN "*kernels.hpp" PATTERN "program.hpp"
        PATTERN "custom*.cuh" PATTERN "cuda_chain.cuh" PATTERN "cuda_lane.cuh")
endfunction()

# A weak symbol in a driver object may be chosen by the linker for every level, and then a processor
# without that level meets an illegal instruction. Sanitizers add symbols of their own, and where only
# one level is compiled nothing can be mixed up.
function(hotloops_check_drivers)
    if(NOT CMAKE_EXECUTABLE_FORMAT STREQUAL "ELF" OR HOTLOOPS_SANITIZE
       OR NOT HOTLOOPS_ISA_LEVEL STREQUAL "ALL")
        return()
    endif()
    get_property(objects GLOBAL PROPERTY HOTLOOPS_DRIVER_OBJECTS)
    file(GENERATE OUTPUT "${HOTLOOPS_DRIVER_LIST}" CONTENT "$<JOIN:${objects},\n>\n")
    add_custom_command(TARGET _core PRE_LINK
        COMMAND "${CMAKE_COMMAND}" "-DNM=${CMAKE_NM}" "-DLIST=${HOTLOOPS_DRIVER_LIST}"
            -P "${PROJECT_SOURCE_DIR}/cmake/check_symbols.cmake"
        COMMENT "Checking the symbols of the driver objects" VERBATIM)
endfunction()

# The headers of the core that work without linking the library, and what NVRTC lacks.
function(hotloops_install_headers)
    install(DIRECTORY csrc/core DESTINATION hotloops/include/hotloops
        FILES_MATCHING PATTERN "*.hpp" PATTERN "*.cuh" PATTERN "rtc/cstdint"
        PATTERN "bind*.hpp" EXCLUDE
        PATTERN "blocks.hpp" EXCLUDE
        PATTERN "cublas.hpp" EXCLUDE
        PATTERN "cuda_launch.hpp" EXCLUDE
        PATTERN "dispatch.hpp" EXCLUDE
        PATTERN "finite.hpp" EXCLUDE
        PATTERN "interrupt.hpp" EXCLUDE
        PATTERN "pool.hpp" EXCLUDE)
    include(CMakePackageConfigHelpers)
    write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/hotloopsConfigVersion.cmake"
        COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
    install(FILES cmake/hotloopsConfig.cmake
        "${CMAKE_CURRENT_BINARY_DIR}/hotloopsConfigVersion.cmake"
        DESTINATION hotloops/include/cmake)
endfunction()

function(hotloops_finish)
    hotloops_check_drivers()
    hotloops_install_headers()
endfunction()
