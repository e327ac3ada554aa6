# The CUDA side of libtorch and the CUDA language; included by Torch.cmake where MEGATRON_CUDA is ON.
#
# Compiles and links on a machine without a GPU, with a libtorch that lacks the CUDA libraries it loads
# (--allow-shlib-undefined): those are needed to run only. `MEGATRON_CUDA=1 make deps` installs them.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90)
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)  # CMake 3.25 knows none above it for this compiler; kernels need no more
find_package(CUDAToolkit 13.0 REQUIRED)

find_library(TORCH_CUDA_LIBRARY torch_cuda HINTS ${TORCH_LIBRARY_DIR} NO_DEFAULT_PATH)
find_library(TORCH_C10_CUDA_LIBRARY c10_cuda HINTS ${TORCH_LIBRARY_DIR} NO_DEFAULT_PATH)
if(NOT TORCH_CUDA_LIBRARY OR NOT TORCH_C10_CUDA_LIBRARY)
  message(FATAL_ERROR
    "Expected a libtorch with CUDA, but ${TORCH_LIBRARY_DIR} has no libtorch_cuda.so; give another with "
    "-DTORCH_ROOT, or configure with -DMEGATRON_CUDA=OFF.")
endif()
# Headers only: libtorch_cuda.so loads the library itself.
find_path(NCCL_INCLUDE_DIR nccl.h
          HINTS ${TORCH_LIBRARY_DIR}/../../nvidia/nccl/include ${CUDAToolkit_INCLUDE_DIRS})
if(NOT NCCL_INCLUDE_DIR)
  message(FATAL_ERROR
    "Expected nccl.h, but found none. `MEGATRON_CUDA=1 make deps` installs it, or name its folder with "
    "-DNCCL_INCLUDE_DIR.")
endif()
message(STATUS "CUDA ${CUDAToolkit_VERSION} for sm_${CMAKE_CUDA_ARCHITECTURES}, NCCL: ${NCCL_INCLUDE_DIR}")

target_compile_definitions(megatron_torch INTERFACE MEGATRON_USE_CUDA USE_C10D_NCCL)
target_include_directories(megatron_torch SYSTEM INTERFACE
  ${CUDAToolkit_INCLUDE_DIRS} ${NCCL_INCLUDE_DIR})
# libtorch_cuda.so registers its kernels when it is loaded: it must be linked even if nothing names it.
target_link_libraries(megatron_torch INTERFACE
  -Wl,--push-state,--no-as-needed,${TORCH_CUDA_LIBRARY},--pop-state
  ${TORCH_C10_CUDA_LIBRARY} CUDA::cudart)
