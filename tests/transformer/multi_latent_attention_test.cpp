// Multi-latent attention: against its formula, in tensor-parallel layouts, with packed sequences,
// and decoding from both kinds of cache.
#include "megatron/transformer/multi_latent_attention.h"

#include <cmath>
#include <map>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/models/common/model_rotary_embedding.h"
#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/models/gpt/gpt_layer_specs.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/transformer/latent_absorption.h"
#include "megatron/transformer/module_registry.h"
#include "megatron/transformer/static_inference_context.h"

#include "tests/models/gpt/built_model.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

constexpr int64_t kBatch = 2, kLength = 8;

// All sizes differ.
GPTModelConfig latent_config() {
  GPTModelConfig config;
  config.vocab_size = 40;
  config.should_pad_vocab = false;
  config.share_embeddings_and_output_weights = true;
  config.seq_length = 16;
  config.position_embedding_type = PositionEmbeddingType::rope;
  TransformerConfig& t = config.transformer;
  t.num_layers = 2;
  t.hidden_size = 22;  // not a multiple of the heads
  t.num_attention_heads = 4;
  t.ffn_hidden_size = 32;
  t.normalization = Normalization::RMSNorm;
  t.hidden_dropout = t.attention_dropout = 0;
  t.init_method_std = 0.3;
  t.params_dtype = at::kDouble;
  t.qk_layernorm = true;
  t.mla.multi_latent_attention = true;
  t.mla.q_lora_rank = 10;
  t.mla.kv_lora_rank = 20;
  t.mla.qk_head_dim = 3;
  t.mla.qk_pos_emb_head_dim = 6;
  t.mla.v_head_dim = 5;
  return config;
}

at::Tensor wave(at::IntArrayRef shape, double phase) {
  return at::sin(at::arange(c10::multiply_integers(shape), at::kDouble) * 0.7 + phase).view(shape);
}

std::shared_ptr<Attention> make_attention(const GPTModelConfig& config,
                                          const LayerOptions& options) {
  const TransformerConfig& t = config.transformer;
  const ModuleSpec layer = local_layer_spec(t);
  auto attention = attention_modules().build({layer.at("self_attention"), t, options});
  attention->assign_names();
  initialize_weights(*attention, 7);
  const at::NoGradGuard no_grad;
  for (const ParameterPtr& parameter : attention->parameters()) {
    if (parameter->name.ends_with("layernorm.weight"))
      parameter->data.copy_(1 + 0.3 * wave(parameter->data.sizes(), 1));
    if (parameter->name.ends_with("bias")) parameter->data.copy_(wave(parameter->data.sizes(), 2));
  }
  return attention;
}

std::shared_ptr<Attention> make_attention(const GPTModelConfig& config) {
  return make_attention(
      config, {at::TensorOptions().dtype(at::kDouble), ProcessGroupCollection::single_rank().tp});
}

LayerInput input_of(const GPTModelConfig& config, int64_t length,
                    const std::optional<PackedSeqParams>& packed = {}) {
  LayerInput input;
  input.packed_seq_params = packed;
  input.rotary =
      ModelRotaryEmbedding::make(config)->table({.positions = at::arange(length, at::kLong),
                                                 .row_length = length,
                                                 .packed_seq_params = packed},
                                                at::kDouble, at::kCPU);
  return input;
}

ForwardContext full_context(int64_t length, bool training = false) {
  return ForwardContext::make(training, 3, at::arange(kBatch, at::kLong), length, false, 0, 1);
}

// --- The formula, per token and head

using Weights = std::map<std::string, at::Tensor>;

Weights weights_of(const MegatronModule& module) {
  Weights weights;
  for (const ParameterPtr& parameter : module.parameters())
    weights[parameter->name] = parameter->data.detach();
  return weights;
}

at::Tensor normalized(const at::Tensor& x, const Weights& weights, const std::string& name) {
  if (!weights.contains(name)) return x;
  return x / at::sqrt(x.square().mean() + 1e-5) * weights.at(name);
}

// Adjacent features are the real and imaginary parts of a number rotated by the position.
at::Tensor rotate_pairs(const at::Tensor& x, int64_t position) {
  at::Tensor y = x.clone();
  const int64_t r = x.size(0);
  for (int64_t i = 0; i < r; i += 2) {
    const double angle = position * std::pow(10000.0, -double(i) / double(r));
    y[i] = x[i] * std::cos(angle) - x[i + 1] * std::sin(angle);
    y[i + 1] = x[i] * std::sin(angle) + x[i + 1] * std::cos(angle);
  }
  return y;
}

// x [s, h] of one sequence -> [s, h].
at::Tensor by_formula(const TransformerConfig& config, const Weights& weights,
                      const at::Tensor& x) {
  const auto& mla = config.mla;
  const int64_t n = config.num_attention_heads, d = mla.qk_head_dim, r = mla.qk_pos_emb_head_dim,
                dv = mla.v_head_dim, s = x.size(0);
  std::vector<at::Tensor> outputs;
  std::vector<std::vector<at::Tensor>> keys(n), values(n);
  for (int64_t token = 0; token < s; ++token) {
    const at::Tensor down = weights.at("linear_kv_down_proj.weight").matmul(x[token]);
    const at::Tensor up = weights.at("linear_kv_up_proj.weight")
                              .matmul(normalized(down.narrow(0, 0, mla.kv_lora_rank), weights,
                                                 "kv_layernorm.weight"));
    const at::Tensor rotary_key = rotate_pairs(down.narrow(0, mla.kv_lora_rank, r), token);
    const at::Tensor query =
        mla.q_lora_rank
            ? weights.at("linear_q_up_proj.weight")
                  .matmul(normalized(weights.at("linear_q_down_proj.weight").matmul(x[token]),
                                     weights, "q_layernorm.weight"))
            : weights.at("linear_q_proj.weight").matmul(x[token]);
    std::vector<at::Tensor> heads;
    for (int64_t head = 0; head < n; ++head) {
      const at::Tensor up_head = up.narrow(0, head * (d + dv), d + dv);
      keys[head].push_back(at::cat({up_head.narrow(0, 0, d), rotary_key}));
      values[head].push_back(up_head.narrow(0, d, dv));
      const at::Tensor q = query.narrow(0, head * (d + r), d + r);
      const at::Tensor rotated =
          at::cat({q.narrow(0, 0, d), rotate_pairs(q.narrow(0, d, r), token)});
      const at::Tensor scores = at::stack(keys[head]).matmul(rotated) / std::sqrt(double(d + r));
      heads.push_back(at::softmax(scores, 0).matmul(at::stack(values[head])));
    }
    outputs.push_back(weights.at("linear_proj.weight").matmul(at::cat(heads)) +
                      weights.at("linear_proj.bias"));
  }
  return at::stack(outputs);
}

TEST(LatentAttention, EqualsItsFormula) {
  for (const bool query_latent : {true, false}) {
    for (const bool normalize : {true, false}) {
      GPTModelConfig config = latent_config();
      config.transformer.qk_layernorm = normalize;
      if (!query_latent) config.transformer.mla.q_lora_rank.reset();
      const auto attention = make_attention(config);
      const at::NoGradGuard no_grad;
      const at::Tensor x = wave({kLength, kBatch, config.transformer.hidden_size}, 0);
      const auto [output, bias, normed] =
          attention->forward(x, input_of(config, kLength), full_context(kLength));
      EXPECT_FALSE(normed.defined());
      for (int64_t row = 0; row < kBatch; ++row) {
        const at::Tensor expected =
            by_formula(config.transformer, weights_of(*attention), x.select(1, row));
        EXPECT_TRUE(at::allclose(output.select(1, row) + bias, expected, 1e-11, 1e-11))
            << "query latent " << query_latent << ", normalized " << normalize;
      }
    }
  }
}

TEST(LatentAttention, ParametersMatchMegatron) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const ParameterPtr& parameter : make_attention(latent_config())->parameters())
    shapes[parameter->name] = parameter->global_shape();
  EXPECT_EQ(shapes, (std::map<std::string, std::vector<int64_t>>{
                        {"linear_q_down_proj.weight", {10, 22}},
                        {"q_layernorm.weight", {10}},
                        {"linear_q_up_proj.weight", {4 * 9, 10}},
                        {"linear_kv_down_proj.weight", {20 + 6, 22}},
                        {"kv_layernorm.weight", {20}},
                        {"linear_kv_up_proj.weight", {4 * 8, 20}},
                        {"linear_proj.weight", {22, 4 * 5}},
                        {"linear_proj.bias", {22}}}));
}

// DeepSeek-V3: factor 40, mscale_all_dim 1, heads of 128 + 64.
TEST(LatentAttention, YarnScalesTheScores) {
  MultiLatentAttentionConfig mla;
  EXPECT_DOUBLE_EQ(latent_softmax_scale(mla), 1 / std::sqrt(192.0));
  mla.rope_type = RopeType::yarn;
  mla.yarn.mscale_all_dim = 1;
  EXPECT_NEAR(latent_softmax_scale(mla), 0.135234, 1e-6);
}

// --- Layouts

struct LatentLayout {
  int tp;
  bool sequence_parallel;
};

class LatentAttentionLayouts : public testing::TestWithParam<LatentLayout> {};

// Compares outputs and all gradients, with attention dropout.
TEST_P(LatentAttentionLayouts, EqualOneRank) {
  const auto [tp, sequence_parallel] = GetParam();
  for (const bool query_latent : {true, false}) {
    GPTModelConfig config = latent_config();
    config.transformer.attention_dropout = 0.2;
    if (!query_latent) config.transformer.mla.q_lora_rank.reset();
    const auto one_rank = make_attention(config);
    const at::Tensor x =
        wave({kLength, kBatch, config.transformer.hidden_size}, 0).set_requires_grad(true);
    const at::Tensor g = wave(x.sizes(), 4);
    const at::Tensor y =
        one_rank->forward(x, input_of(config, kLength), full_context(kLength, true)).output;
    torch::autograd::backward({y}, {g});
    std::map<std::string, at::Tensor> gradients;
    for (const ParameterPtr& parameter : one_rank->parameters())
      gradients[parameter->name] = parameter->data.grad();

    run_thread_world(tp, [&](RankContext& rank) {
      const auto groups = rank.make_groups({.tp = tp});
      const auto attention = make_attention(
          config, {at::TensorOptions().dtype(at::kDouble), groups.tp, sequence_parallel});
      const int64_t length = sequence_parallel ? kLength / tp : kLength,
                    first = sequence_parallel ? length * rank.rank : 0;
      const at::Tensor input =
          x.detach().narrow(0, first, length).contiguous().set_requires_grad(true);
      const at::Tensor output =
          attention
              ->forward(input, input_of(config, kLength),
                        ForwardContext::make(true, 3, at::arange(kBatch, at::kLong), kLength,
                                             sequence_parallel, rank.rank, tp))
              .output;
      EXPECT_TRUE(at::allclose(output, y.narrow(0, first, length), 1e-11, 1e-11));
      torch::autograd::backward({output}, {g.narrow(0, first, length).contiguous()});
      EXPECT_TRUE(at::allclose(input.grad(), x.grad().narrow(0, first, length), 1e-11, 1e-11));
      for (const ParameterPtr& parameter : attention->parameters()) {
        if (parameter->name == "linear_proj.bias") continue;  // added by the layer
        at::Tensor gradient = parameter->data.grad().clone();
        if (parameter->sequence_parallel) groups.tp->all_reduce(gradient);
        EXPECT_TRUE(at::allclose(gradient, parameter->local_part(gradients.at(parameter->name)),
                                 1e-11, 1e-11))
            << parameter->name;
      }
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, LatentAttentionLayouts,
                         testing::Values(LatentLayout{1, false}, LatentLayout{2, false},
                                         LatentLayout{2, true}, LatentLayout{4, true}));

TEST(LatentAttention, PackedSequencesEqualSeparateOnes) {
  const GPTModelConfig config = latent_config();
  const auto attention = make_attention(config);
  const at::NoGradGuard no_grad;
  const std::vector<int64_t> lengths = {3, 1, 4};
  const at::Tensor x = wave({8, 1, config.transformer.hidden_size}, 0);
  PackedSeqParams packed;
  packed.cu_seqlens_q = at::tensor({0, 3, 4, 8}, at::kInt);
  const at::Tensor packed_output =
      attention->forward(x, input_of(config, 8, packed), full_context(8)).output;
  int64_t first = 0;
  for (const int64_t length : lengths) {
    const at::Tensor separate =
        attention
            ->forward(x.narrow(0, first, length), input_of(config, length), full_context(length))
            .output;
    EXPECT_TRUE(at::allclose(packed_output.narrow(0, first, length), separate, 1e-12, 1e-12));
    first += length;
  }
}

// --- Decoding

at::Tensor logits_of(GPTModel& model, const at::Tensor& tokens, int64_t first,
                     StaticInferenceContext* cache) {
  const int64_t b = tokens.size(0), s = tokens.size(1);
  ForwardContext context;
  context.sample_ordinals = at::arange(b, at::kLong);
  context.positions = context.residual_positions = at::arange(first, first + s, at::kLong);
  return model.forward({.input_ids = tokens,
                        .position_ids = context.positions.expand({b, s}).contiguous(),
                        .inference_context = cache,
                        .runtime_gather_output = true},
                       context);
}

struct Cached {
  at::Tensor logits;  // [b, s, v] of all tokens, decoded in chunks
  int64_t bytes;      // of the cache
};

Cached decoded(GPTModel& model, const at::Tensor& tokens) {
  StaticInferenceContext cache(/*max_sequence_length=*/16);
  cache.materialize_only_last_token_logits = false;
  std::vector<at::Tensor> chunks;
  int64_t first = 0;
  for (const int64_t chunk : {6, 1, 1, 3, 1}) {
    chunks.push_back(logits_of(model, tokens.narrow(1, first, chunk).contiguous(), first, &cache));
    cache.advance(chunk);
    first += chunk;
  }
  return {at::cat(chunks, 1), cache.bytes()};
}

// The first chunk up-projects the cached latents; chunks of at most five tokens use absorption.
TEST(LatentAttention, DecodingWithEitherCacheEqualsFullForward) {
  const at::Tensor tokens = (at::arange(kBatch * 12, at::kLong) * 13 % 40).view({kBatch, 12});
  for (const auto& [dtype, bound] : {std::pair{at::kFloat, 1e-5}, {at::kDouble, 1e-12}}) {
    for (const bool latents : {false, true}) {
      for (const int tp : {1, 2}) {
        GPTModelConfig config = latent_config();
        config.transformer.params_dtype = dtype;
        config.transformer.init_method_std = 0.1;
        config.transformer.mla.cache_mla_latents = latents;
        config.transformer.tensor_model_parallel_size = tp;
        run_thread_world(tp, [&](RankContext& rank) {
          const at::NoGradGuard no_grad;
          const auto model =
              build_gpt_model(config, make_model_groups(config.transformer, rank), at::kCPU);
          initialize_weights(*model, 5);
          model->synchronize_shared_embedding();
          const Cached ours = decoded(*model, tokens);
          const at::Tensor full = logits_of(*model, tokens, 0, nullptr);
          EXPECT_LT((ours.logits - full).abs().max().item<double>(), bound)
              << "latents " << latents << ", tp " << tp;
          const auto& mla = config.transformer.mla;
          const int64_t heads_p = config.transformer.num_attention_heads / tp;
          const int64_t features = latents ? mla.kv_lora_rank + mla.qk_pos_emb_head_dim
                                           : heads_p * (mla.query_head_dim() + mla.v_head_dim);
          EXPECT_EQ(ours.bytes, config.transformer.num_layers * 16 * kBatch * features *
                                    static_cast<int64_t>(c10::elementSize(dtype)));
        });
      }
    }
  }
}

// DeepSeek-V3: up-projecting a cached token costs 512 x 256 multiplications per head.
TEST(LatentAbsorption, PaysForDecodingOnly) {
  MultiLatentAttentionConfig mla;
  mla.kv_lora_rank = 512;
  EXPECT_TRUE(absorption_pays(mla, 1));
  EXPECT_TRUE(absorption_pays(mla, 100));
  EXPECT_FALSE(absorption_pays(mla, 1000));
}

}  // namespace
}  // namespace megatron
