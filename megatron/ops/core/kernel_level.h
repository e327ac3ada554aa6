// The instruction sets that the CPU kernels are compiled for, and the choice of one at run time.
//
// CMake compiles every kernel file (*_cpu.cpp) once per level, with the level's name as the macro
// MEGATRON_KERNEL_LEVEL. A kernel is a function template whose first parameter is the level; the
// kernel file instantiates it for kKernelLevel. Operators call kernels through with_kernel_level.
//
// The linker merges inline functions and template instantiations of the same name, and would let
// code for one level be called at another. Therefore helpers in kernel files are in unnamed
// namespaces, helpers in headers that only kernel files include are in the inline namespace
// MEGATRON_KERNEL_LEVEL, and tests/ops/core/kernel_symbols.sh checks the objects.
#pragma once

#include <string_view>
#include <type_traits>

// Other files, such as tests of helpers, are compiled for the compiler's target.
#if !defined(MEGATRON_KERNEL_LEVEL)
#define MEGATRON_KERNEL_LEVEL compiler_target
#endif

namespace megatron {

enum class KernelLevel {
  avx2,             // AVX2, FMA and F16C
  avx512,           // and AVX-512 F, BW, DQ and VL
  avx512_bf16,      // and AVX-512 BF16 and VNNI
  compiler_target,  // the only level with MEGATRON_NATIVE and on other architectures
};

// The level of the kernel file being compiled.
static constexpr KernelLevel kKernelLevel = KernelLevel::MEGATRON_KERNEL_LEVEL;

// The highest level that this processor supports, or a lower one named by the environment variable
// MEGATRON_CPU_CAPABILITY. Throws Error for other values and for processors without AVX2.
KernelLevel kernel_level();

// kernel_level for a value of MEGATRON_CPU_CAPABILITY; empty: not set.
KernelLevel select_kernel_level(std::string_view requested);

// Calls body(level), where `level` converts to a constant KernelLevel: the level to call kernels at
// that are compiled up to the level `highest`.
template <KernelLevel highest = KernelLevel::avx512, typename Body>
decltype(auto) with_kernel_level(const Body& body) {
  using enum KernelLevel;
  [[maybe_unused]] const KernelLevel level = kernel_level();  // checks the processor in any case
#if defined(MEGATRON_KERNEL_LEVELS)
  if (level == avx2) return body(std::integral_constant<KernelLevel, avx2>());
  if constexpr (highest == avx512_bf16) {
    if (level == avx512_bf16) return body(std::integral_constant<KernelLevel, avx512_bf16>());
  }
  return body(std::integral_constant<KernelLevel, avx512>());
#else
  return body(std::integral_constant<KernelLevel, compiler_target>());
#endif
}

}  // namespace megatron
