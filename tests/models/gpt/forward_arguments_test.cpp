// Each argument of GPTModel::forward has its documented effect.
#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/transformer/static_inference_context.h"

#include "tests/models/gpt/small_gpt.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

constexpr int64_t kInputRows = 2, kInputTokens = 4, kInputHidden = 12;

class ForwardArguments : public testing::Test {
 protected:
  at::Tensor forward(const GPTModelInput& input) {
    return model_->forward(input, evaluation_context(kInputRows, kInputTokens));
  }

  const at::NoGradGuard no_grad_;
  std::shared_ptr<GPTModel> model_ = build_gpt(small_gpt_config());
  GPTModelInput input_ = token_input(kInputRows, kInputTokens);
};

at::Tensor causal_mask() {
  return at::ones({kInputTokens, kInputTokens}, at::kBool)
      .triu(1)
      .view({1, 1, kInputTokens, kInputTokens});
}

TEST_F(ForwardArguments, DecoderInputReplacesTheEmbedding) {
  const at::Tensor hidden = at::randn({kInputTokens, kInputRows, kInputHidden});
  GPTModelInput with_ids = input_;
  with_ids.decoder_input = hidden;
  const at::Tensor logits = forward(with_ids);
  EXPECT_TRUE(logits.equal(forward({.decoder_input = hidden})));
  EXPECT_FALSE(logits.equal(forward(input_)));
}

// In layers that take arbitrary masks.
TEST_F(ForwardArguments, AttentionMaskReplacesCausalMask) {
  GPTModelConfig config = small_gpt_config();
  config.transformer_layer_spec = "modelopt_transformer_layer_spec";
  model_ = build_gpt(config);
  const at::Tensor causal = forward(input_);
  input_.attention_mask = causal_mask();
  EXPECT_TRUE(at::allclose(forward(input_), causal, 1e-5, 1e-6));
  input_.attention_mask = at::zeros({1, 1, kInputTokens, kInputTokens}, at::kBool);
  EXPECT_FALSE(at::allclose(forward(input_), causal, 1e-5, 1e-6)) << "no key is masked";
  // Per row: no mask for the first, causal for the second.
  input_.attention_mask =
      at::cat({at::zeros({1, 1, kInputTokens, kInputTokens}, at::kBool), causal_mask()})
          .contiguous();
  const at::Tensor mixed = forward(input_);
  EXPECT_TRUE(at::allclose(mixed[1], causal[1], 1e-5, 1e-6));
  EXPECT_FALSE(at::allclose(mixed[0], causal[0], 1e-5, 1e-6));
}

TEST_F(ForwardArguments, LabelsReturnTheLossOfTheLogits) {
  const at::Tensor logits = forward(input_);
  input_.labels = (input_.input_ids + 1) % 100;
  input_.loss_mask = at::zeros({kInputRows, kInputTokens});  // does not affect token losses
  const at::Tensor expected =
      -at::log_softmax(logits, -1).gather(2, input_.labels.unsqueeze(-1)).squeeze(-1);
  EXPECT_TRUE(at::allclose(forward(input_), expected, 1e-5, 1e-6));
}

TEST_F(ForwardArguments, AttentionBiasIsAddedToTheScores) {
  const at::Tensor plain = forward(input_);
  // A constant bias has no effect; a large negative bias masks a key.
  input_.extra_block_arguments.attention_bias = at::full({1, 1, kInputTokens, kInputTokens}, 3.0);
  EXPECT_TRUE(at::allclose(forward(input_), plain, 1e-5, 1e-6));
  at::Tensor masking = at::zeros({kInputRows, 4, kInputTokens, kInputTokens});
  masking.narrow(3, 0, 1).fill_(-1e4);
  input_.extra_block_arguments.attention_bias = masking;
  const at::Tensor biased = forward(input_);
  input_.extra_block_arguments.attention_bias = at::Tensor();
  input_.attention_mask = causal_mask().clone();
  input_.attention_mask.narrow(3, 0, 1).fill_(true);
  const at::Tensor masked = forward(input_);
  EXPECT_TRUE(at::allclose(biased.narrow(1, 1, 3), masked.narrow(1, 1, 3), 1e-5, 1e-6));
  EXPECT_FALSE(at::allclose(biased, plain, 1e-5, 1e-6));
}

TEST_F(ForwardArguments, AttentionBiasHasAGradient) {
  const at::AutoGradMode grad_mode(true);
  const at::Tensor bias = at::zeros({1, 4, kInputTokens, kInputTokens}).requires_grad_();
  input_.extra_block_arguments.attention_bias = bias;
  forward(input_).square().sum().backward();
  ASSERT_TRUE(bias.grad().defined());
  EXPECT_GT(bias.grad().abs().max().item<double>(), 0);
  EXPECT_EQ(bias.grad().triu(1).abs().max().item<double>(), 0) << "gradient of masked keys";
}

TEST_F(ForwardArguments, RotaryTablesReplaceThoseOfTheModel) {
  GPTModelConfig config = small_gpt_config();
  config.position_embedding_type = PositionEmbeddingType::rope;
  config.transformer.kv_channels = 4;
  model_ = build_gpt(config);
  const RotaryEmbedding rotary(rope_frequencies(4, 10000), /*interleaved=*/false);
  const at::Tensor expected = forward(input_);
  const auto with_positions = [&](const at::Tensor& positions) {
    GPTModelInput input = input_;
    input.extra_block_arguments.rotary = rotary.table(positions, at::kFloat, at::kCPU);
    return forward(input);
  };
  EXPECT_TRUE(with_positions(at::arange(kInputTokens, at::kDouble)).equal(expected));
  EXPECT_FALSE(with_positions(at::arange(kInputTokens, at::kDouble) * 3).equal(expected));
}

TEST_F(ForwardArguments, InferenceParamsIsAnAliasOfInferenceContext) {
  StaticInferenceContext context(kInputTokens), other(kInputTokens);
  context.materialize_only_last_token_logits = other.materialize_only_last_token_logits = false;
  const at::Tensor expected = forward(input_);
  input_.runtime_gather_output = true;
  input_.inference_params = &context;
  EXPECT_TRUE(at::allclose(forward(input_), expected, 1e-5, 1e-6));
  input_.inference_context = &context;
  EXPECT_NO_THROW(forward(input_));
  input_.inference_context = &other;
  EXPECT_THAT([&] { forward(input_); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("but got two different")));
}

TEST_F(ForwardArguments, LastTokenLogitsOnly) {
  StaticInferenceContext context(kInputTokens);
  const at::Tensor expected = forward(input_);
  input_.inference_context = &context;
  input_.runtime_gather_output = true;
  const at::Tensor last = forward(input_);
  EXPECT_EQ(last.sizes(), at::IntArrayRef({kInputRows, 1, 100}));
  EXPECT_TRUE(at::allclose(last, expected.narrow(1, kInputTokens - 1, 1), 1e-5, 1e-6));
}

TEST_F(ForwardArguments, InputTensorMayBeAListOfOne) {
  const at::Tensor hidden = at::zeros({kInputTokens, kInputRows, kInputHidden});
  EXPECT_NO_THROW(model_->set_input_tensor(hidden));
  EXPECT_NO_THROW(model_->set_input_tensor(std::vector{hidden}));
  EXPECT_THAT(
      [&] {
        model_->set_input_tensor({hidden, hidden});
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr("exactly one input tensor")));
  EXPECT_THROW(model_->set_input_tensor(std::vector<at::Tensor>{}), Error);
}

TEST(RuntimeGatherOutput, OverridesParallelOutput) {
  for (const bool parallel_output : {true, false}) {
    run_thread_world(2, [&](RankContext& rank) {
      const at::NoGradGuard no_grad;
      GPTModelConfig config = small_gpt_config();
      config.parallel_output = parallel_output;
      config.transformer.tensor_model_parallel_size = 2;
      const auto model = build_gpt(config, 1234, make_model_groups(config.transformer, rank));
      GPTModelInput input = token_input(kInputRows, kInputTokens);
      const auto columns = [&](std::optional<bool> gather) {
        input.runtime_gather_output = gather;
        return model->forward(input, evaluation_context(kInputRows, kInputTokens)).size(2);
      };
      EXPECT_EQ(columns({}), parallel_output ? 50 : 100);
      EXPECT_EQ(columns(true), 100);
      EXPECT_EQ(columns(false), 50);
      StaticInferenceContext context(kInputTokens);
      input.inference_context = &context;
      EXPECT_EQ(columns(true), 100);
      EXPECT_THAT([&] { columns(false); },
                  testing::ThrowsMessage<Error>(testing::AllOf(
                      testing::HasSubstr("Expected gathered logits with an inference context"),
                      testing::HasSubstr("runtime_gather_output = true works"))));
      if (parallel_output) {
        EXPECT_THROW(columns({}), Error);
      } else {
        EXPECT_EQ(columns({}), 100);
      }
    });
  }
}

}  // namespace
}  // namespace megatron
