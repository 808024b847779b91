# cmake -DNM=nm -DLIST=file -P check_symbols.cmake
#
# Each line of the file is "level|object". Fails when an object defines a weak or unique symbol, or a
# global one outside hl::isa_<level>.
cmake_minimum_required(VERSION 3.24)

file(STRINGS "${LIST}" lines)
if(NOT lines)
    message(FATAL_ERROR "${LIST} names no object")
endif()

set(problems "")
foreach(line IN LISTS lines)
    string(REGEX MATCH "^([a-z0-9]+)\\|(.+)$" matched "${line}")
    if(NOT matched)
        message(FATAL_ERROR "Not of the form level|object: ${line}")
    endif()
    set(level ${CMAKE_MATCH_1})
    set(object "${CMAKE_MATCH_2}")
    string(LENGTH "isa_${level}" length)
    execute_process(COMMAND "${NM}" --extern-only --defined-only --format=posix "${object}"
        OUTPUT_VARIABLE output RESULT_VARIABLE failed ERROR_VARIABLE error)
    if(failed)
        message(FATAL_ERROR "${NM} failed on ${object}: ${error}")
    endif()
    string(REGEX MATCHALL "[^\n]+" symbols "${output}")
    foreach(symbol IN LISTS symbols)
        string(REGEX MATCH "^([^ ]+) ([A-Za-z])" matched "${symbol}")
        set(name "${CMAKE_MATCH_1}")
        set(kind "${CMAKE_MATCH_2}")
        if(name STREQUAL "DW.ref.__gxx_personality_v0")
            # A pointer that the exception tables share: data, the same in every object.
        elseif(kind MATCHES "[WwVvu]")
            string(APPEND problems "\n  ${object}: weak symbol ${name}")
        elseif(NOT name MATCHES "^_ZNK?2hl${length}isa_${level}[0-9]")
            string(APPEND problems "\n  ${object}: symbol outside hl::isa_${level}: ${name}")
        endif()
    endforeach()
endforeach()

if(problems)
    message(FATAL_ERROR "Driver objects may only define hl::isa_<level>:${problems}")
endif()
