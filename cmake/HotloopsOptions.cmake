set(HOTLOOPS_CUDA AUTO CACHE STRING
    "Build the CUDA extension: AUTO (when nvcc works), ON (or fail), OFF")
set_property(CACHE HOTLOOPS_CUDA PROPERTY STRINGS AUTO ON OFF)
set(HOTLOOPS_CUDA_ARCHITECTURES AUTO CACHE STRING
    "AUTO (everything this nvcc can build of 75 to 120, and PTX of the newest), or a list for CMAKE_CUDA_ARCHITECTURES")
set(HOTLOOPS_SANITIZE "" CACHE STRING
    "Sanitizers to build with: empty, address,undefined or thread")
set(HOTLOOPS_ISA_LEVEL ALL CACHE STRING
    "Instruction sets to compile drivers for on x86-64: ALL, or only one: base, v3 or v4")
set_property(CACHE HOTLOOPS_ISA_LEVEL PROPERTY STRINGS ALL base v3 v4)
option(HOTLOOPS_WERROR "Treat warnings as errors" OFF)
option(HOTLOOPS_TESTS "Build the C++ tests, which ctest runs" OFF)

if(NOT HOTLOOPS_CUDA MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "HOTLOOPS_CUDA must be AUTO, ON or OFF, got '${HOTLOOPS_CUDA}'")
endif()
if(NOT HOTLOOPS_ISA_LEVEL MATCHES "^(ALL|base|v3|v4)$")
    message(FATAL_ERROR
        "HOTLOOPS_ISA_LEVEL must be ALL, base, v3 or v4, got '${HOTLOOPS_ISA_LEVEL}'")
endif()
if(NOT HOTLOOPS_SANITIZE MATCHES "^(|address|undefined|address,undefined|thread)$")
    message(FATAL_ERROR
        "HOTLOOPS_SANITIZE must be empty, address, undefined, address,undefined or thread, "
        "got '${HOTLOOPS_SANITIZE}'")
endif()
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
