# find_package(hotloops CONFIG REQUIRED) with CMAKE_PREFIX_PATH set to what hotloops.get_include()
# returns gives the target hotloops::headers.
if(NOT TARGET hotloops::headers)
    get_filename_component(hotloops_INCLUDE_DIR "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
    add_library(hotloops::headers INTERFACE IMPORTED)
    target_include_directories(hotloops::headers INTERFACE "${hotloops_INCLUDE_DIR}")
    target_compile_features(hotloops::headers INTERFACE cxx_std_17)
    # The headers promise the same bits everywhere, which contraction would break.
    target_compile_options(hotloops::headers INTERFACE
        $<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang,AppleClang>:-ffp-contract=off>
        $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false>)
endif()
