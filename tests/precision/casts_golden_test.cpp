// Casts against torch's, torchao's and ml_dtypes' codes: every code, tie and special value.
#include <optional>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/formats/safetensors_file.h"
#include "megatron/ops/quantization/casts.h"

#include "tests/precision/golden_folder.h"

namespace megatron {
namespace {

using test::same_bits;

std::optional<LowPrecisionFormat> golden_format(const std::string& name) {
  if (name == "e4m3fn") return LowPrecisionFormat::e4m3;
  if (name == "e5m2") return LowPrecisionFormat::e5m2;
  if (name == "e2m1") return LowPrecisionFormat::e2m1;
  if (name == "e8m0") return LowPrecisionFormat::e8m0;
  return std::nullopt;
}

at::Tensor reference_codes(const at::Tensor& x, LowPrecisionFormat format, CastOverflow overflow) {
  at::Tensor codes = at::empty(x.sizes(), at::kByte);
  for (int64_t i = 0; i < x.numel(); ++i) {
    codes.data_ptr<uint8_t>()[i] =
        reference::cast_to_code(x.const_data_ptr<float>()[i], format, overflow);
  }
  return codes;
}

void expect_codes(const at::Tensor& x, LowPrecisionFormat format, CastOverflow overflow,
                  const at::Tensor& expected, const std::string& key) {
  EXPECT_TRUE(same_bits(cast_to_codes(x, format, overflow), expected)) << key;
  EXPECT_TRUE(same_bits(reference_codes(x.to(at::kFloat), format, overflow), expected))
      << key << ", reference";
}

// The 16-bit floats with the bit patterns 0 to n - 1.
at::Tensor all_patterns(int64_t n, at::ScalarType dtype) {
  return at::arange(n, at::kInt).to(at::kShort).view(dtype);
}

class CastsGolden : public testing::TestWithParam<test::GoldenFile> {};

TEST_P(CastsGolden, CodesAndValuesAreExact) {
  REQUIRE_GOLDEN_FILE(GetParam());
  const SafetensorsFile file = SafetensorsFile::open(GetParam().path);
  for (const std::string& key : file.names()) {
    const size_t slash = key.find('/');
    const std::string what = key.substr(slash + 1);
    const auto format = golden_format(key.substr(0, slash));
    if (!format) {
      ADD_FAILURE() << key << ": Expected a format e4m3fn, e5m2, e2m1 or e8m0";
      continue;
    }
    if (what == "x") continue;  // the input of the other keys
    const at::Tensor expected = file.tensor(key);
    const auto x = [&] { return file.tensor(key.substr(0, slash) + "/x"); };
    if (what == "decode") {
      const at::Tensor codes = at::arange(expected.numel(), at::kByte);
      EXPECT_TRUE(same_bits(decode_codes(codes, *format), expected)) << key;
      for (int64_t i = 0; i < expected.numel(); ++i) {
        EXPECT_TRUE(same_bits(
            at::scalar_tensor(reference::decode_code(static_cast<uint8_t>(i), *format), at::kFloat),
            expected[i]))
            << key << " " << i;
      }
    } else if (what == "code" || what == "code_nearest") {
      expect_codes(x(), *format, CastOverflow::special, expected, key);
    } else if (what == "code_saturated") {
      expect_codes(x(), *format, CastOverflow::saturate, expected, key);
    } else if (what == "all_bf16_code") {
      expect_codes(all_patterns(expected.numel(), at::kBFloat16), *format, CastOverflow::special,
                   expected, key);
    } else if (what == "all_fp16_code") {
      expect_codes(all_patterns(expected.numel(), at::kHalf), *format, CastOverflow::special,
                   expected, key);
    } else {
      ADD_FAILURE() << key << ": Expected decode, x, code, code_saturated, code_nearest, "
                    << "all_bf16_code or all_fp16_code";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, CastsGolden,
                         testing::ValuesIn(test::golden_files("casts", ".safetensors")),
                         test::golden_name);

}  // namespace
}  // namespace megatron
