// Options that families of models need, against formulas: norms around branches, parallel residuals,
// multipliers, caps, norms of queries and keys over all heads.
#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/transformer/base_transformer_layer.h"
#include "megatron/transformer/module_registry.h"
#include "megatron/transformer/norm.h"

#include "tests/models/gpt/small_gpt.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

constexpr int64_t kBatch = 2, kLength = 4;

GPTModelConfig family_config() {
  GPTModelConfig config = small_gpt_config();
  config.position_embedding_type = PositionEmbeddingType::none;
  config.transformer.params_dtype = at::kDouble;
  config.transformer.init_method_std = 0.3;
  return config;
}

at::Tensor logits_of(const GPTModelConfig& config) {
  const at::NoGradGuard no_grad;
  return build_gpt(config)->forward(token_input(kBatch, kLength),
                                    evaluation_context(kBatch, kLength));
}

void expect_equal(const at::Tensor& got, const at::Tensor& want) {
  EXPECT_LT((got - want).abs().max().item<double>(), 1e-11);
}

// The layer's modules by name, called as the layer should call them.
struct LayerParts {
  explicit LayerParts(const GPTModelConfig& config)
      : options{at::TensorOptions().dtype(at::kDouble), ProcessGroupCollection::single_rank().tp},
        layer(build(config, options)) {
    layer->assign_names("");
    initialize_weights(*layer, /*seed=*/1234);
    const at::NoGradGuard no_grad;
    for (const ParameterPtr& parameter : layer->parameters()) {
      const bool is_norm = parameter->name.find("layer_norm") != std::string::npos ||
                           parameter->name.find("layernorm") != std::string::npos;
      if (is_norm)
        parameter->data.add_(at::arange(parameter->data.numel()).view_as(parameter->data) * 0.1);
    }
  }
  at::Tensor value(const std::string& name) const {
    for (const ParameterPtr& parameter : layer->parameters())
      if (parameter->name == name) return parameter->data.detach();
    ADD_FAILURE() << "no parameter " << name;
    return {};
  }
  at::Tensor norm(const at::Tensor& x, const std::string& prefix) const {
    return at::layer_norm(x, {x.size(-1)}, value(prefix + "weight"), value(prefix + "bias"), 1e-5);
  }
  at::Tensor mlp(const at::Tensor& x) const {
    const at::Tensor hidden =
        at::gelu(at::linear(x, value("mlp.linear_fc1.weight"), value("mlp.linear_fc1.bias")));
    return at::linear(hidden, value("mlp.linear_fc2.weight"), value("mlp.linear_fc2.bias"));
  }
  // Of the first token, which sees itself only: the projections of its value.
  at::Tensor attention_of_first(const at::Tensor& x) const {
    const at::Tensor mixed = at::linear(x, value("self_attention.linear_qkv.weight"),
                                        value("self_attention.linear_qkv.bias"));
    const at::Tensor values = mixed.view({x.size(0), x.size(1), 4, 3, -1}).select(3, 2).flatten(2);
    return at::linear(values, value("self_attention.linear_proj.weight"),
                      value("self_attention.linear_proj.bias"));
  }
  at::Tensor run(const at::Tensor& x) const {
    const at::NoGradGuard no_grad;
    return layer->forward(x, {}, evaluation_context(x.size(1), x.size(0)));
  }

  LayerOptions options;
  std::shared_ptr<BaseTransformerLayer> layer;

 private:
  // By the registry, which gives parameters the names of their spec.
  static std::shared_ptr<BaseTransformerLayer> build(const GPTModelConfig& config,
                                                     const LayerOptions& options) {
    const ModuleSpec spec = local_layer_spec(config.transformer);
    return layer_modules().build({spec, config.transformer, options});
  }
};

at::Tensor one_token() {
  return at::arange(kBatch * 12, at::kDouble).mul(1.7).sin().view({1, kBatch, 12});
}

constexpr const char* kQkvNorm = "self_attention.linear_qkv.layer_norm_";
constexpr const char* kMlpNorm = "mlp.linear_fc1.layer_norm_";
constexpr const char* kProjNorm = "self_attention.linear_proj.post_layernorm.";
constexpr const char* kOutputNorm = "mlp.linear_fc2.post_layernorm.";

TEST(FamilyOptions, NormsStandBeforeAfterOrAroundBranches) {
  const at::Tensor x = one_token();
  for (const NormPlacement placement :
       {NormPlacement::before, NormPlacement::after, NormPlacement::around}) {
    GPTModelConfig config = family_config();
    config.transformer.norm_placement = placement;
    config.transformer.residual_multiplier = 0.5;
    const LayerParts parts(config);
    const bool before = config.transformer.has_norms_before();
    const bool after = config.transformer.has_norms_after();
    const auto branch = [&](const at::Tensor& in, const char* first, const char* second,
                            const auto& body) {
      const at::Tensor out = body(before ? parts.norm(in, first) : in);
      return (after ? parts.norm(out, second) : out) * 0.5;
    };
    const at::Tensor middle = x + branch(x, kQkvNorm, kProjNorm, [&](const auto& in) {
                                return parts.attention_of_first(in);
                              });
    const at::Tensor want = middle + branch(middle, kMlpNorm, kOutputNorm,
                                            [&](const auto& in) { return parts.mlp(in); });
    expect_equal(parts.run(x), want);
  }
}

TEST(FamilyOptions, ParallelBranchesReadTheLayersInput) {
  const at::Tensor x = one_token();
  for (const bool shared : {false, true}) {
    GPTModelConfig config = family_config();
    config.transformer.use_parallel_residual = true;
    config.transformer.share_parallel_layernorm = shared;
    const LayerParts parts(config);
    const at::Tensor for_attention = parts.norm(x, shared ? "input_layernorm." : kQkvNorm);
    const at::Tensor for_mlp = shared ? for_attention : parts.norm(x, kMlpNorm);
    expect_equal(parts.run(x), x + parts.attention_of_first(for_attention) + parts.mlp(for_mlp));
  }
}

// The two halves that schedule plans run are the layer.
TEST(FamilyOptions, HalvesOfAParallelLayerEqualTheLayer) {
  for (const bool shared : {false, true}) {
    GPTModelConfig config = family_config();
    config.transformer.use_parallel_residual = true;
    config.transformer.share_parallel_layernorm = shared;
    const LayerParts parts(config);
    const at::NoGradGuard no_grad;
    const ForwardContext context = evaluation_context(kBatch, 1);
    const at::Tensor half = parts.layer->forward_attention(one_token(), {}, context);
    EXPECT_EQ(half.sizes(), (std::vector<int64_t>{2, 1, kBatch, 12}));
    EXPECT_TRUE(at::equal(parts.layer->forward_mlp(half, context), parts.run(one_token())));
  }
}

TEST(FamilyOptions, LogitsAreScaledThenCapped) {
  GPTModelConfig config = family_config();
  const at::Tensor plain = logits_of(config);
  config.transformer.logit_multiplier = 3;
  expect_equal(logits_of(config), plain * 3);
  config.transformer.final_logit_softcapping = 2;
  expect_equal(logits_of(config), at::tanh(plain * 3 / 2) * 2);
}

TEST(FamilyOptions, EmbeddingsAreScaled) {
  GPTModelConfig config = family_config();
  GPTModelConfig scaled = config;
  scaled.transformer.embedding_multiplier = 7;
  const auto plain = build_gpt(config), model = build_gpt(scaled);
  const at::NoGradGuard no_grad;
  // A model whose embedding is 7 times larger.
  plain->shared_embedding_or_output_weight()->data.mul_(7);
  const GPTModelInput input = token_input(kBatch, kLength);
  const ForwardContext context = evaluation_context(kBatch, kLength);
  expect_equal(model->forward(input, context), plain->forward(input, context));
}

// transformers holds Gemma's sqrt(h) in the type of the activations; other multipliers are exact.
TEST(FamilyOptions, SquareRootOfTheHiddenSizeIsRoundedToTheComputeType) {
  const auto logits = [](double multiplier) {
    GPTModelConfig config = family_config();
    config.transformer.hidden_size = 24;
    config.transformer.ffn_hidden_size = 32;
    config.transformer.num_attention_heads = 4;
    config.transformer.num_query_groups = 4;
    config.transformer.kv_channels = 6;
    config.transformer.params_dtype = at::kBFloat16;
    config.transformer.bf16 = true;
    config.transformer.embedding_multiplier = multiplier;
    return logits_of(config);
  };
  const double root = std::sqrt(24.0);  // 4.899, in bf16 4.90625
  EXPECT_TRUE(at::equal(logits(root), logits(4.90625)));
  EXPECT_FALSE(at::equal(logits(root), logits(4.8990)));
}

TEST(FamilyOptions, LinearLayersHaveTheBiasesOfTheFamily) {
  const auto has = [](const GPTModelConfig& config, const std::string& end) {
    for (const ParameterPtr& parameter : build_gpt(config)->parameters())
      if (parameter->name.ends_with(end)) return true;
    return false;
  };
  GPTModelConfig config = family_config();
  config.transformer.add_bias_linear = false;
  config.transformer.add_qkv_bias = true;
  config.transformer.add_mlp_bias = true;
  EXPECT_TRUE(has(config, "linear_qkv.bias"));
  EXPECT_FALSE(has(config, "linear_proj.bias"));
  EXPECT_TRUE(has(config, "linear_fc1.bias"));
  EXPECT_TRUE(has(config, "linear_fc2.bias"));
  EXPECT_FALSE(has(config, "output_layer.bias"));
  config.transformer.add_mlp_bias.reset();
  config.transformer.add_proj_bias = true;
  config.add_output_layer_bias = true;
  EXPECT_TRUE(has(config, "linear_proj.bias"));
  EXPECT_FALSE(has(config, "linear_fc1.bias"));
  EXPECT_TRUE(has(config, "output_layer.bias"));
  EXPECT_TRUE(has(config, "layer_norm_bias"));
  config.transformer.layernorm_bias = false;
  EXPECT_FALSE(has(config, "layer_norm_bias"));
  EXPECT_FALSE(has(config, "final_layernorm.bias"));
}

// Norms of 6 query heads or 2 key heads over ranks: every rank holds a part of the heads, or shares
// one with others.
TEST(FamilyOptions, HeadNormsOverRanksEqualOneRank) {
  constexpr int64_t kDim = 4;
  for (const QkNormScope scope : {QkNormScope::per_head, QkNormScope::projection}) {
    for (const int64_t heads : {6, 2}) {
      TransformerConfig config;
      config.num_layers = 1;
      config.hidden_size = 6 * kDim;
      config.num_attention_heads = 6;
      config.qk_layernorm = true;
      config.qk_layernorm_scope = scope;
      config.normalization = Normalization::RMSNorm;
      const at::Tensor x =
          at::arange(3 * heads * kDim, at::kDouble).mul(0.9).sin().view({3, 1, heads, kDim});
      const at::Tensor weight = at::arange(heads * kDim, at::kDouble).mul(0.1).add(1);
      const at::Tensor flat = scope == QkNormScope::projection ? x.flatten(2) : x;
      const at::Tensor mean = flat.square().mean(-1, /*keepdim=*/true);
      const at::Tensor want = (flat * (mean + config.layernorm_epsilon).rsqrt()).view_as(x) *
                              weight.view({heads, kDim});
      for (const int ranks : {1, 2, 3, 6}) {
        if (heads % ranks != 0 && ranks % heads != 0) continue;
        run_thread_world(ranks, [&](RankContext& rank) {
          const auto tp = rank.make_groups({.tp = ranks}).tp;
          const HeadsNorm norm(config, heads * kDim,
                               {.tensor = at::TensorOptions().dtype(at::kDouble), .tp = tp});
          const at::NoGradGuard no_grad;
          const ParameterPtr parameter = norm.parameters().front();
          parameter->data.copy_(weight.view_as(parameter->data));
          const int64_t first = tp->rank() * heads / ranks;
          const int64_t count = std::max<int64_t>(heads / ranks, 1);
          expect_equal(norm.forward(x.narrow(2, first, count)), want.narrow(2, first, count));
        });
      }
    }
  }
}

}  // namespace
}  // namespace megatron
