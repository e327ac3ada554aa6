// Files with other systems' numbers of low precision: tests/golden/precision, or the folder that the
// environment variable MEGATRON_GOLDEN_PRECISION names. Tests go through whatever files lie there.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

namespace megatron::test {

// One file of a part, or the part's folder where it has none.
struct GoldenFile {
  std::filesystem::path path;
  // MEGATRON_GOLDEN_PRECISION names a folder without this part; the default folder has them all.
  bool part_missing = false;
};

std::filesystem::path golden_precision_folder();

// The files of FOLDER/<part> with an extension (".json"), sorted; one element where the folder is
// missing or has no such file, so that a test can say so.
std::vector<GoldenFile> golden_files(const std::string& part, const std::string& extension);

// "casts" for ".../casts.safetensors", in letters, digits and underscores.
std::string golden_name(const testing::TestParamInfo<GoldenFile>& info);

// Equal shapes, dtypes and bits; NaNs of all kinds are equal. Says where tensors differ first.
testing::AssertionResult same_bits(const at::Tensor& got, const at::Tensor& want);

// The input of a quantizer, from the file inputs.safetensors beside `file`.
at::Tensor quantizer_input(const std::filesystem::path& file, const std::string& name);

// In a test body: skips a part that the folder of MEGATRON_GOLDEN_PRECISION lacks, fails where there
// is no file otherwise.
#define REQUIRE_GOLDEN_FILE(file)                                                          \
  if ((file).part_missing) GTEST_SKIP() << (file).path.string() << ": there is no folder"; \
  ASSERT_TRUE(std::filesystem::is_regular_file((file).path))                               \
      << "Expected files in " << (file).path.string() << ", but there is none"

}  // namespace megatron::test
