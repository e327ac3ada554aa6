#include "megatron/ops/core/kernel_level.h"

#include <cstdlib>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/ranges.h>

#include "megatron/base/error.h"

namespace megatron {

namespace {

using NamedLevel = std::pair<std::string_view, KernelLevel>;

// Ascending.
std::vector<NamedLevel> supported_levels() {
#if defined(MEGATRON_KERNEL_LEVELS)
  std::vector<NamedLevel> levels;
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
      !__builtin_cpu_supports("f16c")) {
    return levels;
  }
  levels.push_back({"avx2", KernelLevel::avx2});
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")) {
    return levels;
  }
  levels.push_back({"avx512", KernelLevel::avx512});
  if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni")) {
    levels.push_back({"avx512_bf16", KernelLevel::avx512_bf16});
  }
  return levels;
#else
  return {{"default", KernelLevel::compiler_target}};
#endif
}

}  // namespace

KernelLevel select_kernel_level(std::string_view requested) {
  const std::vector<NamedLevel> levels = supported_levels();
  check(!levels.empty(),
        "Expected a processor with AVX2, FMA and F16C, but got one without; a build with "
        "-DMEGATRON_NATIVE=ON on this machine works");
  if (requested.empty()) return levels.back().second;
  std::vector<std::string_view> names;
  for (const auto& [name, level] : levels) {
    if (name == requested) return level;
    names.push_back(name);
  }
  fail("Expected MEGATRON_CPU_CAPABILITY to be {} on this processor, but got '{}'",
       fmt::join(names, " or "), requested);
}

KernelLevel kernel_level() {
  static const KernelLevel level = [] {
    const char* requested = std::getenv("MEGATRON_CPU_CAPABILITY");
    return select_kernel_level(requested == nullptr ? "" : requested);
  }();
  return level;
}

}  // namespace megatron
