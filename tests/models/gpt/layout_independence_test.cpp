// Weights, dropout and losses of a seed do not depend on the layout.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/training/train_step.h"

#include "tests/models/gpt/built_model.h"
#include "tests/parallel/thread_world.h"
#include "tests/training/wrapped_models.h"

namespace megatron {
namespace {

struct Layout {
  const char* name;
  int world;
  int64_t tp, pp;
  bool sequence_parallel;
};

constexpr Layout kLayouts[] = {
    {"tp2", 2, 2, 1, false},     {"tp2_sp", 2, 2, 1, true},        {"tp4", 4, 4, 1, false},
    {"tp4_sp", 4, 4, 1, true},   {"pp2", 2, 1, 2, false},          {"pp4", 4, 1, 4, false},
    {"dp2", 2, 1, 1, false},     {"tp2_pp2", 4, 2, 2, false},      {"tp2_sp_dp2", 4, 2, 1, true},
    {"pp2_dp2", 4, 1, 2, false}, {"tp2_sp_pp2_dp2", 8, 2, 2, true}};

struct Model {
  const char* name;
  bool llama;
  int64_t query_groups;
  double dropout;
  bool per_token;
};

constexpr Model kModels[] = {{"gpt2", false, 4, 0.1, false},
                             {"gpt2_per_token", false, 4, 0.1, true},
                             {"llama_gqa", true, 2, 0.0, false},
                             {"llama_mqa_dropout", true, 1, 0.2, false}};

Options make_options(const Model& model, const Layout& layout, at::ScalarType dtype) {
  Options options;
  GPTModelConfig& config = options.model;
  config.vocab_size = 50;
  config.make_vocab_size_divisible_by = 8;
  config.seq_length = 16;
  config.share_embeddings_and_output_weights = !model.llama;
  TransformerConfig& transformer = config.transformer;
  transformer.num_layers = 4;
  transformer.hidden_size = 32;
  transformer.num_attention_heads = 4;
  transformer.num_query_groups = model.query_groups;
  transformer.params_dtype = dtype;
  transformer.hidden_dropout = transformer.attention_dropout = model.dropout;
  transformer.calculate_per_token_loss = model.per_token;
  transformer.tensor_model_parallel_size = layout.tp;
  transformer.pipeline_model_parallel_size = layout.pp;
  transformer.sequence_parallel = layout.sequence_parallel;
  if (model.llama) {
    config.position_embedding_type = PositionEmbeddingType::rope;
    transformer.normalization = Normalization::RMSNorm;
    transformer.gated_linear_unit = true;
    transformer.activation_func = ActivationFunction::silu;
    transformer.add_bias_linear = false;
  }
  options.optimizer.adam_eps = 1e-5;
  return options;
}

constexpr int64_t kMicrobatches = 4, kRows = 2;

MicroBatch make_microbatch(const GPTModelConfig& config, int64_t step, int64_t index) {
  const int64_t first = (step * kMicrobatches + index) * kRows, s = config.seq_length;
  const at::Tensor text =
      ((at::arange(kRows * (s + 1), at::kLong) + 97 * first) * 31 % 47 % *config.vocab_size)
          .view({kRows, s + 1});
  return {.tokens = text.narrow(1, 0, s).contiguous(),
          .position_ids = at::arange(s, at::kLong).expand({kRows, s}).contiguous(),
          .labels = text.narrow(1, 1, s).contiguous(),
          .loss_mask = (text.narrow(1, 1, s) % 5 != 0).to(at::kDouble),
          .attention_mask = {},
          .sample_ordinals = at::arange(first, first + kRows, at::kLong)};
}

// Losses and gradient norms of 4 steps.
std::vector<double> run_steps(const Options& options, const RankContext& rank) {
  const auto groups = make_model_groups(options.model.transformer, rank);
  const auto model = build_gpt_model(options.model, groups, rank.device);
  initialize_weights(*model, options.training.seed);
  TrainStep step(wrapped(model, options), options);
  std::vector<double> numbers;
  const int64_t share = kMicrobatches / groups.dp->size();
  for (int64_t i = 0; i < 4; ++i) {
    std::vector<MicroBatch> microbatches;
    for (int64_t m = 0; m < share; ++m) {
      microbatches.push_back(
          make_microbatch(options.model, i, m * groups.dp->size() + groups.dp->rank()));
    }
    const auto result = step.run(microbatches, BatchSharing::whole_microbatches, 1e-3);
    numbers.push_back(result.loss);
    numbers.push_back(result.grad_norm);
  }
  return numbers;
}

class LayoutIndependence : public testing::TestWithParam<std::tuple<Model, Layout>> {};

void expect_as_one_rank(const Model& model, const Layout& layout, at::ScalarType dtype,
                        double tolerance) {
  std::vector<double> expected;
  run_thread_world(1, [&](RankContext& rank) {
    expected = run_steps(make_options(model, {"one_rank", 1, 1, 1, false}, dtype), rank);
  });
  run_thread_world(layout.world, [&](RankContext& rank) {
    const std::vector<double> ours = run_steps(make_options(model, layout, dtype), rank);
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(ours[i], expected[i], tolerance) << "number " << i;
  });
}

TEST_P(LayoutIndependence, LossesAndGradientNormsEqualOneRank) {
  const auto [model, layout] = GetParam();
  expect_as_one_rank(model, layout, at::kDouble, 1e-10);
  expect_as_one_rank(model, layout, at::kFloat, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Table, LayoutIndependence,
                         testing::Combine(testing::ValuesIn(kModels), testing::ValuesIn(kLayouts)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "_" +
                                  std::get<1>(info.param).name;
                         });

// With sequence parallelism the embedding returns this rank's slice, or with the option off the full
// sequence, which the model then scatters.
TEST(ScatterEmbedding, OffReturnsTheFullSequence) {
  run_thread_world(2, [&](RankContext& rank) {
    Options options = make_options(kModels[0], {"tp2_sp", 2, 2, 1, true}, at::kDouble);
    const auto groups = make_model_groups(options.model, rank);
    const MicroBatch microbatch = make_microbatch(options.model, 0, 0);
    for (const bool scatters : {true, false}) {
      options.model.scatter_embedding_sequence_parallel = scatters;
      const LanguageModelEmbedding embedding(
          options.model, {at::TensorOptions(at::kDouble), groups.tp, /*sequence_parallel=*/true});
      const at::Tensor embedded = embedding.forward(
          microbatch.tokens, microbatch.position_ids,
          ForwardContext::make(/*training=*/true, 0, microbatch.sample_ordinals,
                               options.model.seq_length, /*sequence_parallel=*/true, rank.rank, 2));
      EXPECT_EQ(embedded.size(0), options.model.seq_length / (scatters ? 2 : 1));
    }
  });
}

TEST(ScatterEmbedding, OnAndOffGiveTheNumbersOfOneRank) {
  for (const int64_t depths : {0, 1}) {
    const auto run = [&](const Layout& layout, bool scatters) {
      std::vector<double> numbers;
      run_thread_world(layout.world, [&](RankContext& rank) {
        Options options = make_options(kModels[0], layout, at::kDouble);
        options.model.scatter_embedding_sequence_parallel = scatters;
        options.model.transformer.mtp.mtp_num_layers = depths;
        const std::vector<double> ours = run_steps(options, rank);
        if (rank.rank == 0) numbers = ours;
      });
      return numbers;
    };
    const std::vector<double> expected = run({"one_rank", 1, 1, 1, false}, true);
    ASSERT_EQ(expected.size(), 8);
    for (const bool scatters : {true, false}) {
      const std::vector<double> ours = run({"tp2_sp", 2, 2, 1, true}, scatters);
      ASSERT_EQ(ours.size(), expected.size());
      for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(ours[i], expected[i], 1e-10) << i;
    }
  }
}

// A configuration change that adds a kind of parameter.
struct ParameterKinds {
  const char* name;
  void (*apply)(GPTModelConfig&);
};

const ParameterKinds kParameterKinds[] = {
    {"tied_and_positions", [](GPTModelConfig& c) { c.share_embeddings_and_output_weights = true; }},
    {"untied", [](GPTModelConfig& c) { c.share_embeddings_and_output_weights = false; }},
    {"gqa_gated_normed",
     [](GPTModelConfig& c) {
       c.position_embedding_type = PositionEmbeddingType::rope;
       c.transformer.num_query_groups = 2;
       c.transformer.qk_layernorm = c.transformer.attention_output_gate = true;
       c.transformer.gated_linear_unit = true;
       c.transformer.layernorm_zero_centered_gamma = true;
     }},
    {"mqa_qkv_bias",
     [](GPTModelConfig& c) {
       c.transformer.num_query_groups = 1;
       c.transformer.add_bias_linear = false;
       c.transformer.add_qkv_bias = true;
     }},
    {"sinks", [](GPTModelConfig& c) { c.transformer.softmax_type = SoftmaxType::learnable; }},
    {"latent_attention",
     [](GPTModelConfig& c) {
       c.position_embedding_type = PositionEmbeddingType::rope;
       c.transformer.normalization = Normalization::RMSNorm;
       c.transformer.qk_layernorm = true;
       c.transformer.mla.multi_latent_attention = true;
       c.transformer.mla.q_lora_rank = 12;
     }},
    {"mtp", [](GPTModelConfig& c) { c.transformer.mtp.mtp_num_layers = 2; }},
    {"mup",
     [](GPTModelConfig& c) { c.transformer.mup = {.use_mup = true, .mup_base_hidden_size = 16}; }},
};

TEST(InitialWeights, DoNotDependOnTheLayout) {
  for (const ParameterKinds& kinds : kParameterKinds) {
    std::map<std::string, at::Tensor> expected;
    const auto build = [&](const Layout& layout, const RankContext& rank) {
      Options options = make_options(kModels[0], layout, at::kFloat);
      options.model.vocab_size = 64;  // same padding in every layout
      kinds.apply(options.model);
      const auto model = build_gpt_model(
          options.model, make_model_groups(options.model.transformer, rank), at::kCPU);
      initialize_weights(*model, 7);
      return model;
    };
    run_thread_world(1, [&](RankContext& rank) {
      for (const auto& parameter : build({"one_rank", 1, 1, 1, false}, rank)->parameters())
        expected[parameter->name] = parameter->data.detach().clone();
    });
    for (const Layout& layout : {Layout{"tp4", 4, 4, 1, false}, Layout{"pp2", 2, 1, 2, false},
                                 Layout{"tp2_sp_pp2", 4, 2, 2, true}}) {
      run_thread_world(layout.world, [&](RankContext& rank) {
        for (const auto& parameter : build(layout, rank)->parameters()) {
          const std::string& name = parameter->shared && parameter->name == "output_layer.weight"
                                        ? "embedding.word_embeddings.weight"
                                        : parameter->name;
          EXPECT_TRUE(at::equal(parameter->data, parameter->local_part(expected.at(name))))
              << kinds.name << ' ' << layout.name << ' ' << parameter->name;
        }
      });
    }
  }
}

}  // namespace
}  // namespace megatron
