// What the stored numbers of other systems do not cover: stochastic rounding, the Hadamard transform,
// values read back, refusals.
#include "megatron/ops/quantization/quantize.h"

#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/ops/random/philox.h"
#include "megatron/precision/delayed_scaling.h"
#include "megatron/precision/quantized_linear.h"

namespace megatron {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

at::Tensor normal(at::IntArrayRef shape) {
  return at::randn(shape, at::detail::createCPUGenerator(7), at::TensorOptions(at::kFloat));
}

TEST(Quantize, HalfPrecisionInputsEqualTheirFloats) {
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    const at::Tensor x = normal({33, 130}).to(dtype);
    const QuantizedTensor narrow = quantize_blockwise(x, LowPrecisionFormat::e5m2, 1, 128);
    const QuantizedTensor wide =
        quantize_blockwise(x.to(at::kFloat), LowPrecisionFormat::e5m2, 1, 128);
    EXPECT_TRUE(at::equal(narrow.codes, wide.codes));
    EXPECT_TRUE(at::equal(narrow.scale_inv, wide.scale_inv));
  }
}

TEST(Quantize, ValuesReadBackAreNear) {
  const at::Tensor x = normal({50, 96});
  const auto distance = [&](const QuantizedTensor& q) {
    return ((q.dequantize() - x).norm() / x.norm()).item<double>();
  };
  EXPECT_LT(distance(quantize_tensorwise(x, LowPrecisionFormat::e4m3)), 0.04);
  EXPECT_LT(distance(quantize_blockwise(x, LowPrecisionFormat::e4m3, 128, 128)), 0.04);
  EXPECT_LT(distance(quantize_mxfp8(x, LowPrecisionFormat::e4m3)), 0.04);
  EXPECT_LT(distance(quantize_mxfp8(x, LowPrecisionFormat::e4m3, 32)), 0.04);
  EXPECT_LT(distance(quantize_nvfp4(x)), 0.12);
  EXPECT_LT(distance(quantize_nvfp4(x, 16)), 0.15);
}

TEST(StochasticRounding, IsUnbiased) {
  // One block of 0.3 * amax and so on, many times: the mean over draws approaches the value.
  const at::Tensor row = at::linspace(-6, 6, 16);
  const at::Tensor x = row.repeat({20000, 1});
  const StochasticRounding rounding{.key = hash_name(1, "gradient")};
  const at::Tensor values = quantize_nvfp4(x, 1, rounding).dequantize();
  EXPECT_LT((values.mean(0) - row).abs().max().item<double>(), 0.03);
  EXPECT_GT((quantize_nvfp4(x).dequantize().mean(0) - row).abs().max().item<double>(), 0.1);
  // Only the two neighbours occur.
  EXPECT_LE((values - x).abs().max().item<double>(), 2.0);
  EXPECT_TRUE(at::allclose(values.select(1, 15), x.select(1, 15)));
}

TEST(StochasticRounding, ShardDrawsTheNumbersOfTheWhole) {
  at::Tensor x = normal({32, 96});
  x[0][0] = 8;  // every shard below must have the same amax
  x[16][48] = 8;
  const uint64_t key = hash_name(3, "dy");
  const at::Tensor whole = quantize_nvfp4(x, 1, StochasticRounding{.key = key}).codes;
  const at::Tensor shard =
      quantize_nvfp4(x.slice(0, 16).slice(1, 48), 1,
                     StochasticRounding{.key = key, .first_row = 16, .first_column = 48})
          .codes;
  EXPECT_TRUE(at::equal(shard, whole.slice(0, 16).slice(1, 24)));
  EXPECT_FALSE(
      at::equal(whole, quantize_nvfp4(x, 1, StochasticRounding{.key = hash_name(4, "dy")}).codes));
}

TEST(StochasticRounding, DrawsAreThoseOfThePhiloxBlock) {
  // 1.2 under scale 1 has the neighbours 1 and 1.5; amax 6 makes the block's scale 448 and 448 / 448.
  at::Tensor x = at::full({3, 16}, 1.2f);
  x.select(1, 0).fill_(6);
  const uint64_t key = hash_name(5, "dy");
  const at::Tensor values =
      quantize_nvfp4(x, 1, StochasticRounding{.key = key, .first_row = 100, .first_column = 6})
          .dequantize();
  for (int64_t row = 0; row < 3; ++row) {
    for (int64_t column = 1; column < 16; ++column) {
      const auto global = static_cast<uint32_t>(column + 6);
      const auto words =
          philox4x32_10({global / 4, static_cast<uint32_t>(100 + row), 0, 0},
                        {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)});
      const double draw = (words[global % 4] >> 8) * 0x1p-24;
      EXPECT_NEAR(values[row][column].item<double>(), draw < 0.4 ? 1.5 : 1.0, 1e-6);
    }
  }
}

TEST(RandomHadamardTransform, KeepsProducts) {
  const at::Tensor a = normal({5, 64}), b = normal({7, 64}) + 1;
  const at::Tensor product =
      at::matmul(random_hadamard_transform(a), random_hadamard_transform(b).t());
  EXPECT_LT((product - at::matmul(a, b.t())).abs().max().item<double>(), 1e-4);
}

TEST(RandomHadamardTransform, FirstColumnIsTheSumWithSigns) {
  const at::Tensor signs =
      at::tensor({1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1}).to(at::kFloat);
  const at::Tensor x = at::arange(16, at::kFloat);
  EXPECT_EQ(random_hadamard_transform(x)[0].item<float>(), (x * signs).sum().item<float>() / 4);
}

TEST(Quantize, RefusesArguments) {
  const at::Tensor x = normal({4, 15});
  EXPECT_THAT([&] { quantize_nvfp4(x); },
              ThrowsMessage<Error>(HasSubstr("even number of columns")));
  EXPECT_THAT([&] { random_hadamard_transform(x); },
              ThrowsMessage<Error>(HasSubstr("multiple of 16")));
  EXPECT_THAT([&] { quantize_tensorwise(x, LowPrecisionFormat::e2m1); },
              ThrowsMessage<Error>(HasSubstr("Expected e4m3 or e5m2, but got e2m1")));
  EXPECT_THAT([&] { quantize_tensorwise(x.to(at::kDouble), LowPrecisionFormat::e4m3); },
              ThrowsMessage<Error>(HasSubstr("fp32, bf16 or fp16")));
  EXPECT_THAT([&] { quantize_mxfp8(x[0], LowPrecisionFormat::e4m3); },
              ThrowsMessage<Error>(HasSubstr("matrix [m, k]")));
  EXPECT_THAT([&] { quantize_with_scale(x, LowPrecisionFormat::e4m3, 0); },
              ThrowsMessage<Error>(HasSubstr("positive finite scale")));
}

TEST(Recipe, RefusesWhatItDoesNotUse) {
  EXPECT_THAT([] { scaling_recipe("fp8"); }, ThrowsMessage<Error>(HasSubstr("mxfp8 or nvfp4")));
  EXPECT_THAT([] { QuantizedLinear linear(default_recipe(ScalingRecipe::delayed)); },
              ThrowsMessage<Error>(HasSubstr("given scales")));
  EXPECT_THAT(
      [] {
        QuantizedLinear linear(
            {.scaling = ScalingRecipe::mxfp8, .random_hadamard_transform = true});
      },
      ThrowsMessage<Error>(HasSubstr("Hadamard")));
  EXPECT_THAT(
      [] {
        quantize_operand(default_recipe(ScalingRecipe::nvfp4), LinearOperand::input,
                         normal({2, 16}), {}, StochasticRounding{});
      },
      ThrowsMessage<Error>(HasSubstr("stochastic rounding for gradients")));
  EXPECT_THAT([] { DelayedScaling scaling({.amax_history_len = 0}); },
              ThrowsMessage<Error>(HasSubstr("at least 1 step")));
}

TEST(Recipe, NamesAreMegatrons) {
  for (const std::string_view name : {"delayed", "tensorwise", "blockwise", "mxfp8", "nvfp4"}) {
    EXPECT_EQ(recipe_name(scaling_recipe(name)), name);
  }
}

}  // namespace
}  // namespace megatron
