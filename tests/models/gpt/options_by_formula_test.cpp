// Options that megatron-core accepts but ignores in this code path, tested against formulas instead
// of golden numbers.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/transformer/transformer_layer.h"

#include "tests/models/gpt/small_gpt.h"

namespace megatron {
namespace {

constexpr int64_t kFormulaRows = 2, kFormulaTokens = 4;

TEST(OptionsByFormula, Fp16CrossEntropyRoundsTheLogits) {
  const at::NoGradGuard no_grad;
  GPTModelConfig config = small_gpt_config();
  config.fp16_lm_cross_entropy = true;
  const auto model = build_gpt(config);
  GPTModelInput input = token_input(kFormulaRows, kFormulaTokens);
  const ForwardContext context = evaluation_context(kFormulaRows, kFormulaTokens);
  const at::Tensor logits = model->forward(input, context);
  input.labels = (input.input_ids + 1) % *config.vocab_size;
  const at::Tensor losses = model->forward(input, context);
  const auto by_formula = [&](const at::Tensor& values) {
    const at::Tensor valid = values.narrow(2, 0, *config.vocab_size).to(at::kDouble);
    return valid.logsumexp(2) - valid.gather(2, input.labels.unsqueeze(2)).squeeze(2);
  };
  const at::Tensor in_half = by_formula(logits.to(at::kHalf)), in_full = by_formula(logits);
  const double from_half = (losses - in_half).abs().max().item<double>();
  EXPECT_LT(from_half, 1e-5);
  EXPECT_GT((losses - in_full).abs().max().item<double>(), 2 * from_half)
      << "the logits were not rounded";
}

// With zero output projections a layer returns its residual: x, or the norms' output.
TEST(OptionsByFormula, ResidualMayFollowTheNorms) {
  const at::NoGradGuard no_grad;
  for (const bool post_norm : {false, true}) {
    GPTModelConfig config = small_gpt_config();
    config.transformer.num_layers = 1;
    config.transformer.apply_residual_connection_post_layernorm = post_norm;
    const auto model = build_gpt(config);
    for (const ParameterPtr& parameter : model->parameters()) {
      for (const char* branch : {"linear_proj.", "linear_fc2."}) {
        if (parameter->name.find(branch) != std::string::npos) parameter->data.zero_();
      }
    }
    GPTModelInput input = token_input(kFormulaRows, kFormulaTokens);
    const int64_t h = config.transformer.hidden_size;
    input.decoder_input = at::randn({kFormulaTokens, kFormulaRows, h});
    const ForwardContext context = evaluation_context(kFormulaRows, kFormulaTokens);
    const at::Tensor logits = model->forward(input, context);
    const auto norm = [&](const at::Tensor& x) {
      return at::layer_norm(x, {h}, {}, {}, config.transformer.layernorm_epsilon);
    };
    const at::Tensor residual = post_norm ? norm(norm(input.decoder_input)) : input.decoder_input;
    const at::Tensor expected = model->compute_logits(norm(residual)).transpose(0, 1);
    EXPECT_TRUE(at::allclose(logits, expected, 1e-5, 1e-6)) << post_norm;
    EXPECT_FALSE(at::allclose(logits, model->compute_logits(input.decoder_input).transpose(0, 1),
                              1e-5, 1e-6));
  }
}

// bf16 layers with an fp32 residual stream: with zero output projections the residual is unchanged;
// otherwise the branch's bf16 output is added in fp32.
TEST(OptionsByFormula, ResidualStaysInFp32) {
  const at::NoGradGuard no_grad;
  GPTModelConfig config = small_gpt_config();
  config.transformer.bf16 = true;
  config.transformer.params_dtype = at::kBFloat16;
  config.transformer.fp32_residual_connection = true;
  const LayerOptions options{at::TensorOptions().dtype(at::kBFloat16),
                             ProcessGroupCollection::single_rank().tp};
  const ModuleSpec spec = transformer_engine_layer_spec(config);
  TransformerLayer layer({spec, config.transformer, options});
  layer.assign_names("");
  initialize_weights(layer, /*seed=*/1234);
  const at::Tensor x =
      at::randn({kFormulaTokens, kFormulaRows, config.transformer.hidden_size}) / 3;
  const ForwardContext context = evaluation_context(kFormulaRows, kFormulaTokens);
  const at::Tensor in_fp32 = layer.forward_attention(x, {}, context);
  EXPECT_EQ(in_fp32.scalar_type(), at::kFloat);
  const at::Tensor in_bf16 = layer.forward_attention(x.to(at::kBFloat16), {}, context);
  EXPECT_EQ(in_bf16.scalar_type(), at::kBFloat16);
  const double off = (in_fp32 - in_bf16.to(at::kFloat)).abs().max().item<double>();
  EXPECT_GT(off, 0);
  EXPECT_LT(off, 2e-2);
  for (const ParameterPtr& parameter : layer.parameters()) {
    for (const char* branch : {"linear_proj.", "linear_fc2."}) {
      if (parameter->name.find(branch) != std::string::npos) parameter->data.zero_();
    }
  }
  EXPECT_TRUE(at::equal(layer.forward(x, {}, context), x));
  EXPECT_FALSE(at::equal(layer.forward(x.to(at::kBFloat16), {}, context).to(at::kFloat), x));
}

TEST(OptionsByFormula, QkClipThrowsAboveItsThreshold) {
  for (const double threshold : {1e-6, 1e6}) {
    GPTModelConfig config = small_gpt_config();
    config.transformer.qk_clip = true;
    config.transformer.qk_clip_threshold = threshold;
    const auto model = build_gpt(config);
    const GPTModelInput input = token_input(kFormulaRows, kFormulaTokens);
    const auto forward = [&](bool training) {
      return model->forward(input, ForwardContext::make(training, 0, at::arange(kFormulaRows),
                                                        kFormulaTokens, false, 0, 1));
    };
    EXPECT_NO_THROW(forward(/*training=*/false));
    if (threshold > 1) {
      EXPECT_NO_THROW(forward(/*training=*/true));
    } else {
      EXPECT_THROW(forward(/*training=*/true), Error);
    }
  }
}

}  // namespace
}  // namespace megatron
