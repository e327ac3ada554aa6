# Imports libtorch as the target megatron::torch; sets TORCH_VERSION and TORCH_LIBRARY_DIR.
#
# The wheel's own TorchConfig.cmake asks for a CUDA toolkit even when only the CPU parts are used, so
# this module finds just the libraries that are needed. Searched: TORCH_ROOT (variable or environment),
# CMAKE_PREFIX_PATH (a libtorch folder or a site-packages/torch folder), then the project's own
# environment .venv. An installed megatron uses this same file.
include_guard(GLOBAL)
set(MEGATRON_TORCH_MINIMUM 2.11)

file(GLOB _venv_torch ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
find_path(TORCH_INCLUDE_DIR ATen/ATen.h
          PATHS ${TORCH_ROOT} $ENV{TORCH_ROOT} PATH_SUFFIXES include NO_DEFAULT_PATH)
find_path(TORCH_INCLUDE_DIR ATen/ATen.h
          HINTS ${_venv_torch} ${MEGATRON_BUILT_WITH_TORCH} PATH_SUFFIXES include)
if(NOT TORCH_INCLUDE_DIR)
  message(FATAL_ERROR
    "Expected libtorch >= ${MEGATRON_TORCH_MINIMUM}, but found none. Run `make deps` to install it "
    "into .venv, or give its folder with -DTORCH_ROOT=/path/to/libtorch or -DCMAKE_PREFIX_PATH.")
endif()
get_filename_component(_torch_root ${TORCH_INCLUDE_DIR} DIRECTORY)
find_library(TORCH_CPU_LIBRARY torch_cpu HINTS ${_torch_root} PATH_SUFFIXES lib NO_DEFAULT_PATH REQUIRED)
find_library(TORCH_C10_LIBRARY c10 HINTS ${_torch_root} PATH_SUFFIXES lib NO_DEFAULT_PATH REQUIRED)
get_filename_component(TORCH_LIBRARY_DIR ${TORCH_CPU_LIBRARY} DIRECTORY)

file(STRINGS ${TORCH_INCLUDE_DIR}/torch/headeronly/version.h _torch_version_lines
     REGEX "#define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
set(TORCH_VERSION "")
foreach(_line IN LISTS _torch_version_lines)
  string(REGEX MATCH "[0-9]+$" _number "${_line}")
  list(APPEND TORCH_VERSION ${_number})
endforeach()
list(JOIN TORCH_VERSION "." TORCH_VERSION)
if(TORCH_VERSION VERSION_LESS MEGATRON_TORCH_MINIMUM)
  message(FATAL_ERROR
    "Expected libtorch >= ${MEGATRON_TORCH_MINIMUM}, but got ${TORCH_VERSION} in ${_torch_root}.")
endif()
message(STATUS "libtorch ${TORCH_VERSION}: ${_torch_root}")

add_library(megatron_torch INTERFACE)
add_library(megatron::torch ALIAS megatron_torch)
target_include_directories(megatron_torch SYSTEM INTERFACE
  ${TORCH_INCLUDE_DIR} ${TORCH_INCLUDE_DIR}/torch/csrc/api/include)
target_compile_definitions(megatron_torch INTERFACE USE_DISTRIBUTED USE_C10D_GLOO)
target_link_libraries(megatron_torch INTERFACE ${TORCH_CPU_LIBRARY} ${TORCH_C10_LIBRARY})
# libtorch_cpu.so names CUDA libraries that a CPU build never calls.
target_link_options(megatron_torch INTERFACE -Wl,--allow-shlib-undefined)

if(MEGATRON_CUDA)
  include(TorchCuda)
endif()
