// Distributions of initial weights, and the loss of an untrained model.
#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/models/gpt/small_gpt.h"

namespace megatron {
namespace {

GPTModelConfig wide_config() {
  GPTModelConfig config = small_gpt_config();
  config.transformer.hidden_size = 256;
  config.transformer.init_method_std = 0.03;
  config.seq_length = 64;
  config.vocab_size = 512;
  return config;
}

struct Moments {
  double mean, std;
};

Moments moments_of(const GPTModel& model, const std::string& name) {
  for (const auto& parameter : model.parameters()) {
    if (parameter->name != name) continue;
    const at::Tensor values = parameter->data.detach().to(at::kDouble);
    return {values.mean().item<double>(), values.std().item<double>()};
  }
  ADD_FAILURE() << "no parameter " << name;
  return {};
}

// Within 2%, about five standard errors of the smallest tensor here.
void expect_normal(const GPTModel& model, const std::string& name, double std) {
  const Moments moments = moments_of(model, name);
  EXPECT_NEAR(moments.std, std, 0.02 * std) << name;
  EXPECT_NEAR(moments.mean, 0, 0.02 * std) << name;
}

void expect_constant(const GPTModel& model, const std::string& name, double value) {
  const Moments moments = moments_of(model, name);
  EXPECT_EQ(moments.mean, value) << name;
  EXPECT_EQ(moments.std, 0) << name;
}

TEST(InitialDistributions, MatchMegatron) {
  GPTModelConfig config = wide_config();
  config.transformer.embedding_init_method_std = 0.07;
  config.transformer.qk_layernorm = true;
  const auto model = build_gpt(config);
  const std::string layer = "decoder.layers.1.";
  expect_normal(*model, "embedding.word_embeddings.weight", 0.07);
  expect_normal(*model, "embedding.position_embeddings.weight", 0.07);
  expect_normal(*model, layer + "self_attention.linear_qkv.weight", 0.03);
  expect_normal(*model, layer + "mlp.linear_fc1.weight", 0.03);
  expect_normal(*model, layer + "self_attention.linear_proj.weight", 0.03 / 2);  // sqrt(2 layers)
  expect_normal(*model, layer + "mlp.linear_fc2.weight", 0.03 / 2);
  expect_normal(*model, "output_layer.weight", 0.03);
  for (const char* name : {"self_attention.linear_qkv.layer_norm_", "mlp.linear_fc1.layer_norm_",
                           "self_attention.q_layernorm.", "self_attention.k_layernorm."}) {
    expect_constant(*model, layer + name + "weight", 1);
    expect_constant(*model, layer + name + "bias", 0);
  }
  expect_constant(*model, "decoder.final_layernorm.weight", 1);
  for (const char* name : {"self_attention.linear_qkv", "self_attention.linear_proj",
                           "mlp.linear_fc1", "mlp.linear_fc2"}) {
    expect_constant(*model, layer + name + ".bias", 0);
  }
}

TEST(InitialDistributions, ZeroCenteredNormsStartAtZero) {
  GPTModelConfig config = wide_config();
  config.transformer.layernorm_zero_centered_gamma = true;
  const auto model = build_gpt(config);
  expect_constant(*model, "decoder.final_layernorm.weight", 0);
  expect_constant(*model, "decoder.layers.0.self_attention.linear_qkv.layer_norm_weight", 0);
}

// MuP divides the std of hidden matrices by the square root of the width multiplier; embeddings
// keep theirs.
TEST(InitialDistributions, MatchMup) {
  GPTModelConfig config = wide_config();
  config.transformer.mup = {.use_mup = true, .mup_base_hidden_size = 64};
  for (const bool tied : {false, true}) {
    config.share_embeddings_and_output_weights = tied;
    const auto model = build_gpt(config);
    expect_normal(*model, "embedding.word_embeddings.weight", 0.03);
    expect_normal(*model, "decoder.layers.0.self_attention.linear_qkv.weight", 0.03 / 2);
    expect_normal(*model, "decoder.layers.0.mlp.linear_fc2.weight", 0.03 / 2 / 2);
    if (!tied) expect_normal(*model, "output_layer.weight", 0.03);
  }
}

TEST(InitialDistributions, DifferBetweenTensorsAndSeeds) {
  const auto one = build_gpt(wide_config(), 1), two = build_gpt(wide_config(), 2);
  const auto weight = [](const GPTModel& model, size_t i) { return model.parameters()[i]->data; };
  EXPECT_FALSE(weight(*one, 0).equal(weight(*two, 0)));
  const auto parameters = one->parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const at::Tensor &a = parameters[i]->data, &b = parameters[j]->data;
      if (a.dim() < 2 || a.sizes() != b.sizes()) continue;
      EXPECT_FALSE(a.equal(b)) << parameters[i]->name << " and " << parameters[j]->name;
    }
  }
}

struct FirstLoss {
  const char* name;
  bool tied;
  int64_t hidden_size;
  double std, tolerance;
};

class LossAtStepZero : public testing::TestWithParam<FirstLoss> {};

// ln V + h std^2 / 2: the final norm makes |x|^2 = h, so the logits of an untrained model are
// N(0, h std^2). With tied weights the logit of the input token is larger, which is negligible if
// exp(h std) is small compared to V.
TEST_P(LossAtStepZero, MatchesTheory) {
  const FirstLoss expected = GetParam();
  constexpr int64_t kVocabulary = 4000, kRows = 32, kTokens = 64;
  GPTModelConfig config = wide_config();
  config.transformer.hidden_size = expected.hidden_size;
  config.transformer.init_method_std = expected.std;
  config.share_embeddings_and_output_weights = expected.tied;
  config.vocab_size = kVocabulary;
  const auto model = build_gpt(config);
  const at::NoGradGuard no_grad;
  GPTModelInput input = token_input(kRows, kTokens, kVocabulary);
  input.labels = (input.input_ids * 7 + 11) % kVocabulary;
  const double loss =
      model->forward(input, evaluation_context(kRows, kTokens)).mean().item<double>();
  const double theory = std::log(double(kVocabulary)) +
                        double(expected.hidden_size) * expected.std * expected.std / 2;
  EXPECT_NEAR(loss, theory, expected.tolerance);
}

INSTANTIATE_TEST_SUITE_P(Models, LossAtStepZero,
                         testing::Values(FirstLoss{"untied_wide", false, 256, 0.05, 0.06},
                                         FirstLoss{"untied", false, 64, 0.02, 0.015},
                                         FirstLoss{"tied", true, 64, 0.02, 0.015}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace megatron
