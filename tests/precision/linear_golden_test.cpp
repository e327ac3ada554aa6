// The products of a linear layer under each recipe, against products of Transformer Engine's quantized
// operands in fp64.
#include <map>
#include <set>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/formats/json_file.h"
#include "megatron/formats/safetensors_file.h"
#include "megatron/precision/quantized_linear.h"

#include "tests/precision/golden_folder.h"

namespace megatron {
namespace {

using test::same_bits;

// An element may differ by this times the sum of the absolute products; another recipe is at least 0.2
// of the largest element away.
constexpr double kTolerance = 2e-6;

// "blockwise_pow2" or "nvfp4_rht" in words of this project; none for an unknown word.
std::optional<LowPrecisionRecipe> recipe_of(const std::string& name) {
  std::istringstream words(name);
  std::string word;
  std::getline(words, word, '_');
  LowPrecisionRecipe recipe;
  try {
    recipe.scaling = scaling_recipe(word == "current" ? "tensorwise" : word);
  } catch (const std::exception&) {
    return std::nullopt;
  }
  recipe.format = Fp8Format::e4m3;
  while (std::getline(words, word, '_')) {
    if (word == "hybrid") {
      recipe.format = Fp8Format::hybrid;
    } else if (word == "pow2") {
      recipe.scale_rule.power_of_two = true;
    } else if (word == "rht") {
      recipe.random_hadamard_transform = true;
    } else if (word != "e4m3") {
      return std::nullopt;
    }
  }
  return recipe;
}

class LinearGolden : public testing::TestWithParam<test::GoldenFile> {
 protected:
  void run(const SafetensorsFile& file, const std::string& name, const nlohmann::json& given);
  // Scales of an operand: `what` is "scale", "scale_inv" or "amax", with "_t" of the transpose.
  void check_scales(const LowPrecisionRecipe& recipe, const std::optional<DelayedScales>& scales,
                    const std::string& key, const std::string& operand, std::string what,
                    const at::Tensor& expected);

  std::map<std::string, at::Tensor> operands_;
};

void LinearGolden::check_scales(const LowPrecisionRecipe& recipe,
                                const std::optional<DelayedScales>& scales, const std::string& key,
                                const std::string& operand, std::string what,
                                const at::Tensor& expected) {
  at::Tensor values = operands_.at(operand);
  if (what.ends_with("_t")) {
    what.resize(what.size() - 2);
    values = values.t();
    if (recipe.random_hadamard_transform && operand != "w") {
      values = random_hadamard_transform(values);
    }
  }
  const LinearOperand kind = operand == "x"   ? LinearOperand::input
                             : operand == "w" ? LinearOperand::weight
                                              : LinearOperand::gradient;
  std::optional<float> scale;
  if (scales) {
    scale = operand == "x" ? scales->input : operand == "w" ? scales->weight : scales->gradient;
  }
  const QuantizedTensor got = quantize_operand(recipe, kind, values, {.scale = scale});
  if (what == "amax") {
    EXPECT_EQ(got.amax, expected.item<float>()) << key;
  } else if (expected.dim() == 1) {
    EXPECT_TRUE(same_bits(got.scale_inv.flatten(), expected)) << key;
  } else {
    const int64_t repeats = got.scaling == QuantizedTensor::Scaling::nvfp4 ? got.block_rows : 1;
    EXPECT_TRUE(same_bits(got.scale_inv.repeat_interleave(repeats, 0), expected)) << key;
  }
}

void LinearGolden::run(const SafetensorsFile& file, const std::string& name,
                       const nlohmann::json& given) {
  const auto recipe = recipe_of(name);
  ASSERT_TRUE(recipe) << name
                      << ": Expected current, delayed, blockwise, mxfp8 or nvfp4 with hybrid, "
                      << "e4m3, pow2 or rht";
  std::optional<DelayedScales> scales;
  if (recipe->scaling == ScalingRecipe::delayed) {
    scales = {.input = given.at("x"), .weight = given.at("w"), .gradient = given.at("dy")};
  }
  const QuantizedLinear linear(*recipe, scales);
  const at::Tensor &x = operands_.at("x"), &w = operands_.at("w"), &dy = operands_.at("dy");
  const at::Tensor bias = file.contains("bias") ? file.tensor("bias") : at::Tensor();
  const auto expect = [&](const std::string& what, const at::Tensor& got, at::Tensor bound) {
    const at::Tensor want = file.tensor(name + "/" + what);
    ASSERT_EQ(got.sizes(), want.sizes()) << name << " " << what;
    const double worst =
        ((got.to(at::kDouble) - want.to(at::kDouble)).abs() / (bound + 1e-30)).max().item<double>();
    EXPECT_LE(worst, kTolerance) << name << " " << what;
  };
  const auto magnitude = [](const at::Tensor& t) { return t.to(at::kDouble).abs(); };
  at::Tensor y_bound = at::matmul(magnitude(x), magnitude(w).t());
  if (bias.defined()) y_bound = y_bound + magnitude(bias);
  expect("y", linear.forward(x, w, bias), y_bound);
  expect("dx", linear.input_gradient(dy, w), at::matmul(magnitude(dy), magnitude(w)));
  const auto summed_over_tokens = [&](const at::Tensor& t) {
    return recipe->random_hadamard_transform ? random_hadamard_transform(t.t()) : t.t();
  };
  expect("dw", linear.weight_gradient(dy, x),
         at::matmul(magnitude(summed_over_tokens(dy)), magnitude(summed_over_tokens(x)).t()));
  for (const std::string& key : file.names()) {
    if (!key.starts_with(name + "/")) continue;
    const std::string rest = key.substr(name.size() + 1);
    const size_t slash = rest.find('/');
    if (slash != std::string::npos) {
      check_scales(*recipe, scales, key, rest.substr(0, slash), rest.substr(slash + 1),
                   file.tensor(key));
    } else {
      EXPECT_TRUE(rest == "y" || rest == "dx" || rest == "dw") << key << ": not checked";
    }
  }
}

TEST_P(LinearGolden, ProductsAndScales) {
  REQUIRE_GOLDEN_FILE(GetParam());
  const std::filesystem::path path = GetParam().path;
  const SafetensorsFile file = SafetensorsFile::open(path);
  const auto arguments = read_json_file(
      std::filesystem::path(path).replace_extension(".json").string(), "a case of a linear layer");
  for (const std::string name : {"x", "w", "dy"}) operands_[name] = file.tensor(name);
  const at::Tensor dy = operands_.at("dy");
  const at::Tensor db = QuantizedLinear::bias_gradient(dy);
  EXPECT_LE(((db - file.tensor("db")).abs() / (dy.to(at::kFloat).abs().sum(0) + 1e-30f))
                .max()
                .item<double>(),
            kTolerance);
  std::set<std::string> recipes;
  for (const std::string& key : file.names()) {
    const size_t slash = key.find('/');
    if (slash != std::string::npos) recipes.insert(key.substr(0, slash));
  }
  EXPECT_FALSE(recipes.empty());
  for (const std::string& recipe : recipes) {
    run(file, recipe, arguments.value("given_scales", nlohmann::json::object()));
  }
}

INSTANTIATE_TEST_SUITE_P(Files, LinearGolden,
                         testing::ValuesIn(test::golden_files("linear", ".safetensors")),
                         test::golden_name);

}  // namespace
}  // namespace megatron
