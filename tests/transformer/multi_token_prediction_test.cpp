// MultiTokenPredictionBlock: the inputs of each depth, repeated layers, dropout keys, specs.
#include "megatron/transformer/multi_token_prediction.h"

#include <set>

#include <ATen/ATen.h>

#include "megatron/data_parallel/gradient_buffer.h"
#include "megatron/models/gpt/gpt_layer_specs.h"

#include "tests/ops/op_test.h"

namespace megatron {
namespace {

TransformerConfig block_config(bool repeated) {
  TransformerConfig config;
  config.num_layers = 3;
  config.hidden_size = 8;
  config.num_attention_heads = 2;
  config.params_dtype = at::kDouble;
  config.hidden_dropout = config.attention_dropout = 0;
  config.mtp.mtp_num_layers = 3;
  config.mtp.mtp_use_repeated_layer = repeated;
  return config;
}

LayerOptions block_options() {
  return {at::TensorOptions().dtype(at::kDouble), ProcessGroupCollection::single_rank().tp};
}

ModuleSpec mtp_spec(const TransformerConfig& config) {
  GPTModelConfig model;
  model.transformer = config;
  return mtp_block_spec(model, transformer_engine_layer_spec(model)).value();
}

std::shared_ptr<MultiTokenPredictionBlock> make_block(const TransformerConfig& config) {
  auto block =
      std::make_shared<MultiTokenPredictionBlock>(config, mtp_spec(config), block_options());
  block->assign_names("mtp.");
  uint64_t seed = 1;
  at::NoGradGuard no_grad;
  for (const ParameterPtr& parameter : block->parameters())
    parameter->data.copy_(0.5 * test::random_tensor(parameter->data.sizes(), at::kDouble, seed++));
  return block;
}

ForwardContext block_context(bool training, int64_t s, int64_t b) {
  return ForwardContext::make(training, /*seed=*/7, at::arange(b, at::kLong), s, false, 0, 1);
}

// Embeddings that identify both token id and position.
at::Tensor embed_ids(const at::Tensor& ids, const at::Tensor& positions, const ForwardContext&) {
  const at::Tensor values = (ids * 10 + positions).to(at::kDouble).t().unsqueeze(-1);
  return at::sin(values * at::arange(1, 9, at::kDouble));
}

TEST(MultiTokenPredictionBlock, EachDepthRollsTheTokensOnce) {
  const at::Tensor ids = at::tensor({3, 1, 4, 1}, at::kLong).view({1, 4});
  const at::Tensor positions = at::arange(4, at::kLong).view({1, 4});
  std::vector<at::Tensor> seen_ids, seen_positions;
  const auto block = make_block(block_config(false));
  const auto by_depth = block->forward(
      test::random_tensor({4, 1, 8}, at::kDouble, 50), ids, positions,
      [&](const at::Tensor& i, const at::Tensor& p, const ForwardContext& context) {
        seen_ids.push_back(i);
        seen_positions.push_back(p);
        return embed_ids(i, p, context);
      },
      LayerInput{}, block_context(false, 4, 1));
  ASSERT_EQ(by_depth.size(), 3);
  const std::vector<std::vector<int64_t>> want_ids = {{1, 4, 1, 0}, {4, 1, 0, 0}, {1, 0, 0, 0}},
                                          want_positions = {
                                              {1, 2, 3, 0}, {2, 3, 0, 0}, {3, 0, 0, 0}};
  for (size_t depth = 0; depth < 3; ++depth) {
    EXPECT_EQ(by_depth[depth].sizes(), at::IntArrayRef({4, 1, 8}));
    test::expect_identical(seen_ids[depth], at::tensor(want_ids[depth], at::kLong).view({1, 4}));
    test::expect_identical(seen_positions[depth],
                           at::tensor(want_positions[depth], at::kLong).view({1, 4}));
  }
}

TEST(MultiTokenPredictionBlock, RepeatedLayerSharesWeightsBetweenDepths) {
  const auto block = make_block(block_config(true));
  EXPECT_EQ(block->layers().size(), 1);
  for (const ParameterPtr& parameter : block->parameters())
    EXPECT_TRUE(parameter->name.starts_with("mtp.layers.0.")) << parameter->name;

  const at::Tensor ids = at::tensor({3, 1, 4, 1}, at::kLong).view({1, 4});
  const at::Tensor positions = at::arange(4, at::kLong).view({1, 4});
  const at::Tensor hidden = test::random_tensor({4, 1, 8}, at::kDouble, 51);
  const ForwardContext context = block_context(false, 4, 1);
  const auto by_depth = block->forward(hidden, ids, positions, embed_ids, LayerInput{}, context);
  at::Tensor expected = hidden;
  at::Tensor rolled_ids = ids, rolled_positions = positions;
  for (const at::Tensor& ours : by_depth) {
    rolled_ids = at::constant_pad_nd(rolled_ids.narrow(1, 1, 3), {0, 1});
    rolled_positions = at::constant_pad_nd(rolled_positions.narrow(1, 1, 3), {0, 1});
    expected = block->layers()[0]->forward(
        expected, embed_ids(rolled_ids, rolled_positions, context), LayerInput{}, context);
    test::expect_identical(ours.detach(), expected.detach());
  }
}

// Every dropout site of the decoder and of each depth has a distinct key.
TEST(MultiTokenPredictionBlock, DropoutKeysDifferBetweenDepths) {
  for (const bool repeated : {false, true}) {
    std::set<int64_t> embedding_keys = {0}, layer_keys = {1, 2, 3};
    int64_t depth = 0;
    make_block(block_config(repeated))
        ->forward(
            test::random_tensor({4, 1, 8}, at::kDouble, 52), at::zeros({1, 4}, at::kLong),
            at::zeros({1, 4}, at::kLong),
            [&](const at::Tensor& ids, const at::Tensor& positions, const ForwardContext& context) {
              embedding_keys.insert(context.key(0, DropoutSite::embedding).layer);
              const int64_t layer_number = repeated ? 1 : depth + 1;
              layer_keys.insert(context.key(layer_number, DropoutSite::mlp_output).layer);
              ++depth;
              return embed_ids(ids, positions, context);
            },
            LayerInput{}, block_context(true, 4, 1));
    EXPECT_EQ(embedding_keys.size(), 1 + 3);
    EXPECT_EQ(layer_keys.size(), 3 + 3);
  }
}

TEST(MultiTokenPredictionBlock, DetachedHeadsPassNoGradientAndClipSeparately) {
  for (const bool detached : {false, true}) {
    TransformerConfig config = block_config(false);
    config.mtp.mtp_detach_heads = detached;
    const auto block = make_block(config);
    for (const ParameterPtr& parameter : block->parameters()) {
      EXPECT_EQ(parameter->gradient_norm_group,
                detached ? GradientNormGroup::multi_token_prediction : GradientNormGroup::model);
    }
    const at::Tensor hidden = test::random_tensor({4, 1, 8}, at::kDouble, 53).requires_grad_();
    const at::Tensor scale = at::ones({8}, at::kDouble).requires_grad_();
    const auto by_depth = block->forward(
        hidden, at::ones({1, 4}, at::kLong), at::ones({1, 4}, at::kLong),
        [&](const at::Tensor& ids, const at::Tensor& positions, const ForwardContext& context) {
          return embed_ids(ids, positions, context) * scale;
        },
        LayerInput{}, block_context(false, 4, 1));
    torch::autograd::backward({by_depth[2].pow(3).sum()}, {});
    EXPECT_EQ(hidden.grad().defined(), !detached);
    EXPECT_EQ(scale.grad().defined(), !detached);
    for (const ParameterPtr& parameter : block->parameters()) {
      if (parameter->name.find("eh_proj") == std::string::npos) continue;
      EXPECT_GT(parameter->data.grad().abs().max().item<double>(), 0) << parameter->name;
    }
  }
}

// The gradient of a repeated layer equals the fp32 sum of the gradients of separate layers with the
// same weights. Autograd alone would sum the uses of norm weights and biases in bf16.
TEST(MultiTokenPredictionBlock, RepeatedLayerSumsGradientsInFp32) {
  std::vector<std::vector<at::Tensor>> gradients;  // by block and parameter
  for (const bool repeated : {true, false}) {
    TransformerConfig config = block_config(repeated);
    config.params_dtype = at::kBFloat16;
    config.bf16 = true;
    config.mtp.mtp_num_layers = 2;
    MultiTokenPredictionBlock block(
        config, mtp_spec(config),
        {at::TensorOptions().dtype(at::kBFloat16), ProcessGroupCollection::single_rank().tp});
    block.assign_names("mtp.");
    {
      const at::NoGradGuard no_grad;
      for (const auto& layer : block.layers()) {
        uint64_t seed = 1;
        for (const ParameterPtr& parameter : layer->parameters())
          parameter->data.copy_(0.5 *
                                test::random_tensor(parameter->data.sizes(), at::kDouble, seed++));
      }
    }
    const GradientBuffer buffer(block.parameters(), {.grad_reduce_in_fp32 = true}, 1);
    const auto by_depth = block.forward(
        test::random_tensor({4, 1, 8}, at::kDouble, 54).to(at::kBFloat16),
        at::tensor({3, 1, 4, 1}, at::kLong).view({1, 4}), at::arange(4, at::kLong).view({1, 4}),
        [](const at::Tensor& ids, const at::Tensor& positions, const ForwardContext& context) {
          return embed_ids(ids, positions, context).to(at::kBFloat16);
        },
        LayerInput{}, block_context(true, 4, 1));
    torch::autograd::backward({by_depth[0].pow(2).sum() + by_depth[1].pow(3).sum()}, {});
    for (const auto& layer : block.layers()) {
      gradients.emplace_back();
      for (const ParameterPtr& parameter : layer->parameters())
        gradients.back().push_back(parameter->main_grad.clone());
    }
  }
  ASSERT_EQ(gradients.size(), 3);
  for (size_t i = 0; i < gradients[0].size(); ++i) {
    const at::Tensor expected = gradients[1][i] + gradients[2][i];
    EXPECT_EQ(expected.scalar_type(), at::kFloat);
    if (expected.dim() == 1) {
      test::expect_identical(gradients[0][i], expected);
    } else {
      test::expect_close(gradients[0][i], expected, 1e-5);
    }
  }
}

TEST(MultiTokenPredictionBlock, NumberOfSpecsMustMatch) {
  const TransformerConfig config = block_config(false);
  ModuleSpec spec = mtp_spec(config);
  spec.submodules.erase(mtp_layer_slot(2));
  test::expect_error([&] { MultiTokenPredictionBlock(config, spec, block_options()); },
                     "Expected 3 MTP layer specs");
  test::expect_error(
      [&] {
        MultiTokenPredictionBlock(config, mtp_spec(config).at(mtp_layer_slot(0)), block_options());
      },
      "Expected a spec of MultiTokenPredictionBlock, but got one of MultiTokenPredictionLayer");
}

}  // namespace
}  // namespace megatron
