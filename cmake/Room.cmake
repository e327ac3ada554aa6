# A room is one folder of megatron/: one concept, its sources listed by hand, and the rooms below it
# that it may include. Rooms are compiled as object libraries and linked into the one library.

add_library(megatron_options INTERFACE)
target_include_directories(megatron_options INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
# -fPIC everywhere (executables too), so that all targets can share one precompiled header.
target_compile_options(megatron_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fPIC -Wall -Wextra
  -Wno-missing-field-initializers>)  # members with a default may be left out of { .a = 1 }
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 sees writes out of bounds in its own std::string once inlined (GCC bug 105329 and its kin).
  target_compile_options(megatron_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wno-array-bounds -Wno-restrict -Wno-stringop-overflow
      -Wno-stringop-overread -Wno-maybe-uninitialized
      -Wno-subobject-linkage>)  # the last: unity builds see a source as if it were a header
endif()
target_compile_options(megatron_options INTERFACE
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-fPIC,-Wall,-Wextra;--expt-relaxed-constexpr>")
if(MEGATRON_WERROR)
  target_compile_options(megatron_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Werror> $<$<COMPILE_LANGUAGE:CUDA>:--Werror=all-warnings>)
endif()
if(MEGATRON_SANITIZE)
  target_compile_options(megatron_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${MEGATRON_SANITIZE} -fno-omit-frame-pointer>)
  target_link_options(megatron_options INTERFACE -fsanitize=${MEGATRON_SANITIZE})
endif()
target_link_libraries(megatron_options INTERFACE megatron_dependencies)

# One precompiled header for everything: libtorch's headers take most of a translation unit's time.
file(WRITE ${CMAKE_BINARY_DIR}/pch_anchor.cpp "namespace megatron {}\n")
add_library(megatron_pch OBJECT ${CMAKE_BINARY_DIR}/pch_anchor.cpp)
target_link_libraries(megatron_pch PRIVATE megatron_options)
target_precompile_headers(megatron_pch PRIVATE ${PROJECT_SOURCE_DIR}/megatron/base/pch.h)

set(MEGATRON_ROOMS "" CACHE INTERNAL "")
set(MEGATRON_ROOM_LIBRARIES "" CACHE INTERNAL "")

# megatron_room(<folder> SOURCES a.cpp ... [LIBRARIES private libraries ...])
function(megatron_room folder)
  cmake_parse_arguments(ROOM "" "" "SOURCES;LIBRARIES" ${ARGN})
  string(REPLACE "/" "_" name ${folder})
  list(TRANSFORM ROOM_SOURCES PREPEND ${PROJECT_SOURCE_DIR}/megatron/${folder}/)
  add_library(room_${name} OBJECT ${ROOM_SOURCES})
  target_link_libraries(room_${name} PRIVATE megatron_options ${ROOM_LIBRARIES})
  target_precompile_headers(room_${name} REUSE_FROM megatron_pch)
  set(MEGATRON_ROOMS ${MEGATRON_ROOMS} room_${name} CACHE INTERNAL "")
  set(MEGATRON_ROOM_LIBRARIES ${MEGATRON_ROOM_LIBRARIES} ${ROOM_LIBRARIES} CACHE INTERNAL "")
endfunction()
