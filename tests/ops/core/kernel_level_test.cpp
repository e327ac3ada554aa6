#include "megatron/ops/core/kernel_level.h"

#include <cstdlib>

#include "tests/ops/op_test.h"

namespace megatron::test {
namespace {

// Whether the build has several levels.
bool has_levels() {
  return select_kernel_level("") != KernelLevel::compiler_target;
}

TEST(KernelLevel, DefaultsToTheHighestLevel) {
  if (!has_levels()) GTEST_SKIP() << "built for one instruction set";
  const KernelLevel highest = __builtin_cpu_supports("avx512bf16") ? KernelLevel::avx512_bf16
                              : __builtin_cpu_supports("avx512bw") ? KernelLevel::avx512
                                                                   : KernelLevel::avx2;
  EXPECT_EQ(select_kernel_level(""), highest);
}

// CTest also runs this test with MEGATRON_CPU_CAPABILITY=avx2.
TEST(KernelLevel, FollowsTheEnvironmentVariable) {
  const char* requested = std::getenv("MEGATRON_CPU_CAPABILITY");
  EXPECT_EQ(kernel_level(), select_kernel_level(requested == nullptr ? "" : requested));
  if (has_levels()) {
    EXPECT_EQ(select_kernel_level("avx2"), KernelLevel::avx2);
  }
}

TEST(KernelLevel, CallsKernelsUpToTheirHighestLevel) {
  const KernelLevel level = kernel_level();
  const auto constant = [](auto chosen) { return KernelLevel(chosen); };
  EXPECT_EQ(with_kernel_level<KernelLevel::avx512_bf16>(constant), level);
  EXPECT_EQ(with_kernel_level(constant),
            level == KernelLevel::avx512_bf16 ? KernelLevel::avx512 : level);
}

TEST(KernelLevel, RefusesUnknownLevels) {
  expect_error(
      [] { select_kernel_level("sse2"); },
      "Expected MEGATRON_CPU_CAPABILITY to be " + std::string(has_levels() ? "avx2" : "default"));
  expect_error([] { select_kernel_level("AVX2"); }, "on this processor, but got 'AVX2'");
}

}  // namespace
}  // namespace megatron::test
