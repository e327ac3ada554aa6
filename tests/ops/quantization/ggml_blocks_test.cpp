// ggml's blocks against the values of the package gguf (tests/golden/gguf).
#include "megatron/ops/quantization/ggml_blocks.h"

#include <cstring>
#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/formats/gguf_file.h"
#include "megatron/formats/safetensors_file.h"

namespace megatron {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

const std::string kGgufFolder = std::string(TEST_DATA_DIR) + "/gguf/";

GgufFile blocks_file() {
  return GgufFile::open(kGgufFolder + "blocks.gguf");
}

SafetensorsFile block_values() {
  return SafetensorsFile::open(kGgufFolder + "blocks.safetensors");
}

// Equal with signs of zeros.
bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.dtype() == b.dtype() &&
         std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0;
}

TEST(GgmlBlocks, ValuesAreExact) {
  const GgufFile file = blocks_file();
  const SafetensorsFile expected = block_values();
  ASSERT_EQ(file.names().size(), 11u);
  for (const std::string& name : file.names()) {
    EXPECT_EQ(ggml_type_name(file.entry(name).type), name);
    EXPECT_TRUE(same_bits(file.tensor(name), expected.tensor(name))) << name;
  }
}

TEST(GgmlBlocks, HalfPrecisionIsRoundedOnce) {
  const GgufFile file = blocks_file();
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    for (const std::string& name : file.names()) {
      EXPECT_TRUE(same_bits(file.tensor(name, dtype), file.tensor(name).to(dtype))) << name;
    }
  }
}

TEST(GgmlBlocks, Q8IsThatOfTheReference) {
  const SafetensorsFile expected = block_values();
  const at::Tensor values = expected.tensor("q8_0_input"), theirs = expected.tensor("q8_0_bytes");
  std::vector<std::byte> ours(theirs.nbytes());
  quantize_ggml(GgmlType::Q8_0, values, ours);
  EXPECT_EQ(std::memcmp(ours.data(), theirs.const_data_ptr(), ours.size()), 0);
}

// A block whose scale is the smallest subnormal number: its inverse is infinite.
TEST(GgmlBlocks, TinyValuesBecomeZeros) {
  std::vector<std::byte> blocks(34);
  quantize_ggml(GgmlType::Q8_0, at::full({1, 32}, 1e-45), blocks);
  at::Tensor values = at::empty({1, 32});
  dequantize_ggml(GgmlType::Q8_0, blocks, values);
  EXPECT_TRUE(at::equal(values, at::zeros({1, 32})));
}

TEST(GgmlBlocks, ManyRowsAreEncodedAndDecodedByAllThreads) {
  const at::Tensor values = at::arange(-200000, 200000, at::kFloat).view({-1, 320}) / 7;
  std::vector<std::byte> blocks(static_cast<size_t>(ggml_row_bytes(GgmlType::Q8_0, 400000)));
  quantize_ggml(GgmlType::Q8_0, values, blocks);
  at::Tensor decoded = at::empty_like(values);
  dequantize_ggml(GgmlType::Q8_0, blocks, decoded);
  const at::Tensor largest = values.view({-1, 32}).abs().amax(1, true);
  // Half a step, and the rounding of the scale to half precision.
  EXPECT_TRUE(
      ((decoded - values).view({-1, 32}).abs() <= largest * (0.5 / 127 + 6e-4)).all().item<bool>());
}

TEST(GgmlBlocks, WhatCannotBeWrittenIsRefused) {
  std::vector<std::byte> bytes(34);
  const auto quantize = [&](GgmlType type, const at::Tensor& values, size_t size) {
    return
        [&bytes, type, values, size] { quantize_ggml(type, values, std::span(bytes).first(size)); };
  };
  EXPECT_THAT(quantize(GgmlType::Q4_0, at::zeros({32}), 18),
              ThrowsMessage<Error>(HasSubstr("F32, F16, BF16 or Q8_0, but got Q4_0")));
  EXPECT_THAT(quantize(GgmlType::Q8_0, at::zeros({31}), 34),
              ThrowsMessage<Error>(HasSubstr("multiple of 32 values for Q8_0, but got 31")));
  EXPECT_THAT(quantize(GgmlType::Q8_0, at::zeros({32}), 33),
              ThrowsMessage<Error>(HasSubstr("34 bytes for 32 values")));
  for (const double value : {1e10, -1e10, double(INFINITY), double(NAN)}) {
    EXPECT_THAT(quantize(GgmlType::Q8_0, at::full({32}, value), 34),
                ThrowsMessage<Error>(HasSubstr("for Q8_0")));
  }
  EXPECT_THAT(quantize(GgmlType::F16, at::full({2}, -65520.0), 4),
              ThrowsMessage<Error>(HasSubstr("for F16")));
  EXPECT_NO_THROW(quantize(GgmlType::F16, at::full({2}, 65519.0), 4)());
}

TEST(GgmlType, NamesAndNumbers) {
  EXPECT_EQ(ggml_type("q8_0"), GgmlType::Q8_0);
  EXPECT_EQ(ggml_type("Q4_K"), GgmlType::Q4_K);
  EXPECT_EQ(ggml_type("Q2_K"), std::nullopt);
  EXPECT_EQ(ggml_type(30), GgmlType::BF16);
  EXPECT_EQ(ggml_type(10), std::nullopt);
  EXPECT_EQ(ggml_type_name(10), "Q2_K");
  EXPECT_EQ(ggml_type_name(999), "number 999");
}

}  // namespace
}  // namespace megatron
