// Quantizers against Transformer Engine's references, bit for bit. Where an input has infinity or NaN,
// the references differ from Transformer Engine's kernels, and the kernels' rule is checked instead.
#include <cmath>
#include <map>
#include <regex>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/formats/safetensors_file.h"
#include "megatron/ops/quantization/casts.h"
#include "megatron/ops/quantization/quantize.h"

#include "tests/precision/delayed_scaling_golden.h"
#include "tests/precision/golden_folder.h"

namespace megatron {
namespace {

using test::same_bits;
using Tensors = std::map<std::string, at::Tensor>;

LowPrecisionFormat fp8_format(const std::string& name) {
  return name == "e5m2" ? LowPrecisionFormat::e5m2 : LowPrecisionFormat::e4m3;
}

bool all_finite(const at::Tensor& x) {
  return at::isfinite(x).all().item<bool>();
}

// Replaces what `codes` and `scale_inv` hold of blocks with an amax of infinity or NaN by the kernels'
// rule: scale 1.
void apply_kernel_rule(const at::Tensor& x, LowPrecisionFormat format, int64_t block_rows,
                       int64_t block_columns, at::Tensor& codes, at::Tensor& scale_inv) {
  codes = codes.clone();
  scale_inv = scale_inv.clone();
  const auto slice = [](const at::Tensor& t, int64_t dimension, int64_t index, int64_t length) {
    const int64_t begin = index * length;
    return t.narrow(dimension, begin, std::min(length, t.size(dimension) - begin));
  };
  for (int64_t i = 0; i < scale_inv.size(0); ++i) {
    for (int64_t j = 0; j < scale_inv.size(1); ++j) {
      const auto block = [&](const at::Tensor& t) {
        return slice(slice(t, 0, i, block_rows), 1, j, block_columns);
      };
      if (all_finite(block(x))) continue;
      scale_inv[i][j].fill_(1);
      block(codes).copy_(cast_to_codes(block(x), format));
    }
  }
}

void expect_fp32_scales(const at::Tensor& x, const QuantizedTensor& got, at::Tensor codes,
                        at::Tensor scale_inv, const std::string& key) {
  scale_inv = scale_inv.view(got.scale_inv.sizes());
  apply_kernel_rule(x, got.format, got.block_rows, got.block_columns, codes, scale_inv);
  EXPECT_TRUE(same_bits(got.scale_inv, scale_inv)) << key << " scale_inv";
  EXPECT_TRUE(same_bits(got.codes, codes)) << key << " code";
}

// Takes the tensor `name` out of `tensors`, so that what is left over is reported.
at::Tensor take(Tensors& tensors, const std::string& name, const std::string& group) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) {
    ADD_FAILURE() << group << ": Expected a tensor " << name;
    return at::empty({0});
  }
  const at::Tensor result = found->second;
  tensors.erase(found);
  return result;
}

void check_tensorwise(const at::Tensor& x, const std::smatch& match, Tensors& tensors) {
  const std::string group = match[0];
  const LowPrecisionFormat format = fp8_format(match[2]);
  const Fp32ScaleRule rule{.power_of_two = match[3] == "1", .amax_epsilon = std::stof(match[4])};
  const QuantizedTensor got = quantize_tensorwise(x, format, rule);
  expect_fp32_scales(x, got, take(tensors, "code", group), take(tensors, "scale_inv", group),
                     group);
  const at::Tensor scale = take(tensors, "scale", group);
  if (!all_finite(x)) return;
  const bool narrow = x.scalar_type() == at::kBFloat16;
  const float ours = fp32_scale(absolute_max(x), largest_value(format), rule,
                                narrow ? std::bit_cast<float>(0x7F7F0000u) : kLargestFloat);
  EXPECT_EQ(ours, scale.item<float>()) << group << " scale";
}

void check_blockwise(const at::Tensor& x, const std::smatch& match, Tensors& tensors) {
  const std::string group = match[0];
  const Fp32ScaleRule rule{.power_of_two = match[3] == "1", .amax_epsilon = std::stof(match[4])};
  const int64_t block_rows = match[2] == "1x128" ? 1 : 128;
  const auto quantize = [&](const at::Tensor& values) {
    return quantize_blockwise(values, LowPrecisionFormat::e4m3, block_rows, 128, rule);
  };
  expect_fp32_scales(x, quantize(x), take(tensors, "code", group),
                     take(tensors, "scale_inv", group), group);
  if (block_rows == 1) {
    expect_fp32_scales(x.t(), quantize(x.t()), take(tensors, "code_t", group),
                       take(tensors, "scale_inv_t", group), group + " transposed");
  }
}

void check_mxfp8(const at::Tensor& x, const std::smatch& match, Tensors& tensors) {
  const std::string group = match[0], variant = match[3];
  const LowPrecisionFormat format = fp8_format(match[2]);
  if (variant == "_floor" || format == LowPrecisionFormat::e5m2) {
    // OCP's rule for scales, and e5m2, are torchao's alone; the recipes use neither.
    EXPECT_TRUE(std::ranges::all_of(
        tensors, [](const auto& entry) { return entry.first.starts_with("torchao_"); }))
        << group << ": Expected tensors of torchao only";
    return;
  }
  const at::Tensor padded =
      at::constant_pad_nd(x, {0, (32 - x.size(1) % 32) % 32, 0, (32 - x.size(0) % 32) % 32});
  if (variant == "_32x32") {
    const QuantizedTensor got = quantize_mxfp8(padded, format, 32);
    EXPECT_TRUE(same_bits(got.codes, take(tensors, "code", group))) << group;
    EXPECT_TRUE(same_bits(got.scale_inv, take(tensors, "scale", group))) << group;
    return;
  }
  // Transformer Engine's reference is wrong for infinity and NaN: these are torchao's.
  const std::string source = all_finite(x) ? "" : "torchao_";
  const QuantizedTensor row = quantize_mxfp8(padded, format);
  EXPECT_TRUE(same_bits(row.scale_inv, take(tensors, source + "scale_row", group))) << group;
  EXPECT_TRUE(same_bits(row.codes, take(tensors, source + "code_row", group))) << group;
  const QuantizedTensor column = quantize_mxfp8(padded.t(), format);
  EXPECT_TRUE(same_bits(column.scale_inv.t(), take(tensors, source + "scale_col", group))) << group;
  EXPECT_TRUE(same_bits(column.codes.t(), take(tensors, source + "code_col", group))) << group;
}

// A zero code's sign is the source's choice.
at::Tensor without_negative_zeros(const at::Tensor& pairs) {
  const auto drop = [](const at::Tensor& code) { return at::where(code.eq(8), 0, code); };
  return drop(pairs.bitwise_and(15)).bitwise_or(drop(pairs.bitwise_right_shift(4)).mul(16));
}

// The codes and scales of 1 x 16 or 16 x 16 blocks by the rule, one block after another; for inputs
// with infinity or NaN.
void expect_nvfp4_rule(const at::Tensor& x, const QuantizedTensor& got, const std::string& key) {
  const float tensor_scale = nvfp4_tensor_scale(got.amax);
  EXPECT_EQ(tensor_scale, 1) << key;
  const at::Tensor values = got.dequantize();
  for (int64_t i = 0; i < got.scale_inv.size(0); ++i) {
    for (int64_t j = 0; j < got.scale_inv.size(1); ++j) {
      const auto block = [&](const at::Tensor& t) {
        return t
            .narrow(0, i * got.block_rows, std::min(got.block_rows, got.rows - i * got.block_rows))
            .narrow(1, j * 16, std::min<int64_t>(16, got.columns - j * 16));
      };
      const float amax = absolute_max(block(x));
      const uint8_t scale = got.scale_inv[i][j].item<uint8_t>();
      const float wanted = std::isnan(amax) ? amax : std::min(amax * (1.0f / 6.0f), 448.0f);
      EXPECT_EQ(scale, reference::cast_to_code(wanted, LowPrecisionFormat::e4m3)) << key;
      // NaN reaches the values of its block, and no other.
      EXPECT_EQ(block(values).isnan().all().item<bool>(), std::isnan(amax)) << key;
    }
  }
}

void check_nvfp4(const at::Tensor& x, const std::smatch& match, Tensors& tensors) {
  const std::string group = match[0];
  const int64_t block_rows = match[2] == "1x16" ? 1 : 16;
  const bool transform = match[3] == "_rht";
  for (const bool transposed : {false, true}) {
    const std::string suffix = transposed ? "_t" : "";
    at::Tensor values = transposed ? x.t() : x;
    if (transposed && transform) values = random_hadamard_transform(values);
    const QuantizedTensor got = quantize_nvfp4(values, block_rows);
    const std::string key = group + suffix;
    EXPECT_TRUE(
        same_bits(at::full({1}, got.amax, at::kFloat), take(tensors, "amax" + suffix, group)))
        << key;
    const at::Tensor scale = take(tensors, "scale" + suffix, group);
    const at::Tensor codes = take(tensors, "code" + suffix, group);
    if (!all_finite(x)) {
      expect_nvfp4_rule(values, got, key);
      continue;
    }
    EXPECT_TRUE(same_bits(got.scale_inv.repeat_interleave(block_rows, 0), scale)) << key;
    EXPECT_TRUE(same_bits(without_negative_zeros(got.codes), without_negative_zeros(codes))) << key;
  }
}

class QuantizersGolden : public testing::TestWithParam<test::GoldenFile> {};

// The tensors of a file by their group: what stands before the last slash.
std::map<std::string, Tensors> groups_of(const SafetensorsFile& file) {
  std::map<std::string, Tensors> groups;
  for (const std::string& key : file.names()) {
    const size_t slash = key.rfind('/');
    const std::string group = slash == std::string::npos ? "" : key.substr(0, slash);
    groups[group][slash == std::string::npos ? key : key.substr(slash + 1)] = file.tensor(key);
  }
  return groups;
}

TEST_P(QuantizersGolden, CodesAndScalesAreExact) {
  REQUIRE_GOLDEN_FILE(GetParam());
  const std::filesystem::path path = GetParam().path;
  const SafetensorsFile file = SafetensorsFile::open(path);
  if (path.stem() == "inputs") {
    for (const std::string& key : file.names()) {
      EXPECT_EQ(file.tensor(key).dim(), 2) << key << ": Expected a matrix";
    }
    return;
  }
  if (test::has_delayed_scaling(file)) return test::check_delayed_scaling(file);
  const std::regex tensorwise("(.+)/(e4m3|e5m2)_pow2([01])_eps([0-9.e-]+)");
  const std::regex blockwise("(.+)/(1x128|128x128)_pow2([01])_eps([0-9.e-]+)");
  const std::regex mxfp8("(.+)/(e4m3|e5m2)(_32x32|_floor)?");
  const std::regex nvfp4("(.+)/(1x16|16x16)(_rht)?");
  for (auto& [group, tensors] : groups_of(file)) {
    std::smatch match;
    if (group.empty()) {  // the rule of MXFP8's scales alone
      const at::Tensor amax = take(tensors, "amax", "the file");
      const at::Tensor scales = take(tensors, "amax_e8m0", "the file");
      for (int64_t i = 0; i < std::min(amax.numel(), scales.numel()); ++i) {
        EXPECT_EQ(e8m0_round_up(amax[i].item<float>() / 448.0f), scales[i].item<uint8_t>()) << i;
      }
    } else if (std::regex_match(group, match, tensorwise)) {
      check_tensorwise(test::quantizer_input(path, match[1]), match, tensors);
    } else if (std::regex_match(group, match, blockwise)) {
      check_blockwise(test::quantizer_input(path, match[1]), match, tensors);
    } else if (std::regex_match(group, match, mxfp8)) {
      check_mxfp8(test::quantizer_input(path, match[1]), match, tensors);
    } else if (std::regex_match(group, match, nvfp4)) {
      check_nvfp4(test::quantizer_input(path, match[1]), match, tensors);
    } else {
      ADD_FAILURE() << group
                    << ": Expected a recipe of current, blockwise, mxfp8, nvfp4 or delayed";
      continue;
    }
    // torchao's tensors stand beside those of the main source where the two differ.
    for (const auto& [name, tensor] : tensors) {
      EXPECT_TRUE(name.starts_with("torchao_")) << group << "/" << name << ": not checked";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Files, QuantizersGolden,
                         testing::ValuesIn(test::golden_files("quantizers", ".safetensors")),
                         test::golden_name);

}  // namespace
}  // namespace megatron
