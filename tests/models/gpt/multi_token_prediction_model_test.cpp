// Multi-token prediction in GPTModel: layouts, loss weights, masks, single steps.
#include <cmath>

#include <ATen/ATen.h>

#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/models/gpt/gpt_layer_specs.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/planner/flops.h"
#include "megatron/training/train_step.h"
#include "megatron/transformer/roll_left.h"

#include "tests/models/gpt/built_model.h"
#include "tests/ops/op_test.h"
#include "tests/parallel/thread_world.h"
#include "tests/training/wrapped_models.h"

namespace megatron {
namespace {

struct MtpLayout {
  const char* name;
  int world;
  int64_t tp, pp;
  bool sequence_parallel;
  BatchSharing sharing;
};

constexpr auto kWholeMicrobatches = BatchSharing::whole_microbatches;
constexpr auto kSharedRows = BatchSharing::rows;
constexpr MtpLayout kOneRank = {"one_rank", 1, 1, 1, false, kWholeMicrobatches};
constexpr MtpLayout kMtpLayouts[] = {{"tp2", 2, 2, 1, false, kWholeMicrobatches},
                                     {"tp2_sp", 2, 2, 1, true, kWholeMicrobatches},
                                     {"pp2", 2, 1, 2, false, kWholeMicrobatches},
                                     {"pp4", 4, 1, 4, false, kWholeMicrobatches},
                                     {"dp2", 2, 1, 1, false, kWholeMicrobatches},
                                     {"dp2_rows", 2, 1, 1, false, kSharedRows},
                                     {"tp2_sp_pp2", 4, 2, 2, true, kWholeMicrobatches},
                                     {"pp2_dp2_rows", 4, 1, 2, false, kSharedRows}};

struct MtpModel {
  const char* name;
  bool tied_with_learned_positions;
  bool repeated, detached, per_token;
};

constexpr MtpModel kMtpModels[] = {{"untied_rope", false, false, false, false},
                                   {"tied_learned", true, false, false, false},
                                   {"tied_repeated_per_token", true, true, false, true},
                                   {"detached_per_token", false, false, true, true}};

Options mtp_options(const MtpModel& model, const MtpLayout& layout) {
  Options options;
  GPTModelConfig& config = options.model;
  config.vocab_size = 50;
  config.make_vocab_size_divisible_by = 8;
  config.seq_length = 16;
  config.share_embeddings_and_output_weights = model.tied_with_learned_positions;
  if (!model.tied_with_learned_positions)
    config.position_embedding_type = PositionEmbeddingType::rope;
  TransformerConfig& transformer = config.transformer;
  transformer.num_layers = 4;
  transformer.hidden_size = 32;
  transformer.num_attention_heads = 4;
  transformer.params_dtype = at::kDouble;
  transformer.hidden_dropout = transformer.attention_dropout = 0.1;
  transformer.calculate_per_token_loss = model.per_token;
  transformer.tensor_model_parallel_size = layout.tp;
  transformer.pipeline_model_parallel_size = layout.pp;
  transformer.sequence_parallel = layout.sequence_parallel;
  transformer.mtp = {.mtp_num_layers = 2,
                     .mtp_loss_scaling_factor = 0.3,
                     .mtp_use_repeated_layer = model.repeated,
                     .mtp_detach_heads = model.detached};
  options.optimizer.adam_eps = 1e-5;
  return options;
}

constexpr int64_t kStepMicrobatches = 2, kMicrobatchRows = 2;

// Rows [first_row, first_row + rows) of a micro-batch; one in four tokens is masked.
MicroBatch mtp_microbatch(const GPTModelConfig& config, int64_t step, int64_t index,
                          int64_t first_row, int64_t rows) {
  const int64_t first = (step * kStepMicrobatches + index) * kMicrobatchRows + first_row;
  const int64_t s = config.seq_length;
  std::vector<at::Tensor> text, mask;
  for (int64_t row = first; row < first + rows; ++row) {
    text.push_back((at::arange(s + 1, at::kLong) + 97 * row) * 31 % 47 % *config.vocab_size);
    mask.push_back(((at::arange(s, at::kLong) * 5 + row) % 4).ne(0).to(at::kDouble));
  }
  const at::Tensor tokens = at::stack(text);
  return {.tokens = tokens.narrow(1, 0, s).contiguous(),
          .position_ids = at::arange(s, at::kLong).expand({rows, s}).contiguous(),
          .labels = tokens.narrow(1, 1, s).contiguous(),
          .loss_mask = at::stack(mask),
          .attention_mask = {},
          .sample_ordinals = at::arange(first, first + rows, at::kLong)};
}

std::shared_ptr<GPTModel> initialized(const GPTModelConfig& config,
                                      const ProcessGroupCollection& groups) {
  auto model = build_gpt_model(config, groups, at::kCPU);
  initialize_weights(*model, /*seed=*/1234);
  return model;
}

// Losses, gradient norms and MTP statistics of three steps.
std::vector<double> mtp_numbers(const MtpModel& model, const MtpLayout& layout,
                                const RankContext& rank) {
  const Options options = mtp_options(model, layout);
  const auto groups = make_model_groups(options.model.transformer, rank);
  TrainStep step(wrapped(initialized(options.model, groups), options), options);
  const int64_t dp = groups.dp->size(), dp_rank = groups.dp->rank();
  std::vector<double> numbers;
  for (int64_t i = 0; i < 3; ++i) {
    std::vector<MicroBatch> microbatches;
    for (int64_t m = 0; m < kStepMicrobatches; ++m) {
      if (layout.sharing == BatchSharing::rows) {
        const int64_t rows = kMicrobatchRows / dp;
        microbatches.push_back(mtp_microbatch(options.model, i, m, dp_rank * rows, rows));
      } else if (m % dp == dp_rank) {
        microbatches.push_back(mtp_microbatch(options.model, i, m, 0, kMicrobatchRows));
      }
    }
    const auto result = step.run(microbatches, layout.sharing, 1e-3);
    numbers.insert(numbers.end(), {result.loss, result.grad_norm});
    for (const MtpRecord& depth : result.mtp)
      numbers.insert(numbers.end(), {depth.loss, depth.tokens, depth.acceptance_rate});
  }
  return numbers;
}

class MtpLayouts : public testing::TestWithParam<std::tuple<MtpModel, MtpLayout>> {};

// Compares main and MTP losses, gradient norms and acceptance rates, with dropout and a mask.
TEST_P(MtpLayouts, EqualOneRank) {
  const auto [model, layout] = GetParam();
  std::vector<double> expected;
  run_thread_world(1, [&](RankContext& rank) { expected = mtp_numbers(model, kOneRank, rank); });
  ASSERT_EQ(expected.size(), 3 * (2 + 2 * 3));
  run_thread_world(layout.world, [&](RankContext& rank) {
    const std::vector<double> ours = mtp_numbers(model, layout, rank);
    ASSERT_EQ(ours.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(ours[i], expected[i], 1e-10) << "number " << i;
  });
}

INSTANTIATE_TEST_SUITE_P(Table, MtpLayouts,
                         testing::Combine(testing::ValuesIn(kMtpModels),
                                          testing::ValuesIn(kMtpLayouts)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param).name) + "_" +
                                  std::get<1>(info.param).name;
                         });

class MtpModelTest : public testing::Test {
 protected:
  static Options options_without_dropout(const MtpModel& model = kMtpModels[0]) {
    Options options = mtp_options(model, kOneRank);
    options.model.transformer.hidden_dropout = options.model.transformer.attention_dropout = 0;
    return options;
  }

  // Main gradients by name after one micro-batch.
  static std::map<std::string, at::Tensor> gradients(const Options& options,
                                                     const MicroBatch& microbatch,
                                                     TrainStep::Losses* losses = nullptr) {
    const auto groups = ProcessGroupCollection::single_rank();
    TrainStep step(wrapped(initialized(options.model, groups), options), options);
    const auto result = step.forward_backward({microbatch}, BatchSharing::whole_microbatches);
    if (losses != nullptr) *losses = result;
    std::map<std::string, at::Tensor> by_name;
    for (const ParameterPtr& parameter : step.parameters())
      by_name[parameter->name] = parameter->main_grad.clone();
    return by_name;
  }
};

TEST_F(MtpModelTest, FullyMaskedDepthHasNoGradient) {
  const Options options = options_without_dropout();
  MicroBatch microbatch = mtp_microbatch(options.model, 0, 0, 0, 2);
  // Only the first token is unmasked, so none is left after one roll.
  microbatch.loss_mask.zero_();
  microbatch.loss_mask.select(1, 0).fill_(1);
  TrainStep::Losses losses;
  const auto with = gradients(options, microbatch, &losses);
  ASSERT_EQ(losses.mtp.size(), 2);
  EXPECT_EQ(losses.mtp[0].loss, 0.0);
  EXPECT_EQ(losses.mtp[0].tokens, 0.0);
  EXPECT_EQ(losses.mtp[0].acceptance_rate, 0.0);
  Options plain = options;
  plain.model.transformer.mtp = {};
  const auto without = gradients(plain, microbatch);
  for (const auto& [name, gradient] : with) {
    if (name.starts_with("mtp.")) {
      EXPECT_EQ(gradient.abs().max().item<double>(), 0.0) << name;
    } else {
      test::expect_close(gradient, without.at(name), 1e-15, name);
    }
  }
}

TEST_F(MtpModelTest, DetachedHeadsTrainMtpLayersOnly) {
  Options options = options_without_dropout();
  options.model.transformer.mtp.mtp_detach_heads = true;
  const MicroBatch microbatch = mtp_microbatch(options.model, 0, 0, 0, 2);
  const auto detached = gradients(options, microbatch);
  Options plain = options;
  plain.model.transformer.mtp = {};
  for (const auto& [name, gradient] : gradients(plain, microbatch))
    test::expect_identical(detached.at(name), gradient, name);
  EXPECT_GT(detached.at("mtp.layers.1.eh_proj.weight").abs().max().item<double>(), 0);
}

// The gradient is that of main loss + factor / D x sum of the depths' mean losses, by finite
// differences in a random direction for one parameter of each kind.
TEST_F(MtpModelTest, GradientMatchesWeightedSumOfLosses) {
  for (const bool per_token : {false, true}) {
    Options options = options_without_dropout();
    options.model.transformer.calculate_per_token_loss = per_token;
    const MicroBatch microbatch = mtp_microbatch(options.model, 0, 0, 0, 2);
    const auto groups = ProcessGroupCollection::single_rank();
    TrainStep step(wrapped(initialized(options.model, groups), options), options);
    const auto total = [&] {
      const auto losses = step.forward_backward({microbatch}, BatchSharing::whole_microbatches);
      double sum = losses.loss;
      for (const MtpRecord& depth : losses.mtp) sum += 0.3 / 2 * depth.loss;
      return sum;
    };
    total();
    for (const ParameterPtr& parameter : step.parameters()) {
      const bool chosen = parameter->name == "embedding.word_embeddings.weight" ||
                          parameter->name == "output_layer.weight" ||
                          parameter->name == "decoder.layers.1.mlp.linear_fc1.weight" ||
                          parameter->name == "mtp.layers.0.hnorm.weight" ||
                          parameter->name == "mtp.layers.1.eh_proj.weight";
      if (!chosen) continue;
      total();
      const at::Tensor direction = test::random_tensor(parameter->data.sizes(), at::kDouble, 9);
      const double slope = (parameter->main_grad * direction).sum().item<double>();
      at::Tensor data = parameter->data.detach();
      constexpr double length = 1e-5;
      data.add_(direction, length);
      const double above = total();
      data.sub_(direction, 2 * length);
      const double below = total();
      data.add_(direction, length);
      EXPECT_NEAR(slope, (above - below) / (2 * length), 1e-6 * (1 + std::abs(slope)))
          << parameter->name;
    }
  }
}

// With dropout, for separate and repeated layers, detached or not. In bf16 this needs the gradients
// of all uses of a repeated layer to be summed in fp32.
TEST_F(MtpModelTest, FullRecomputationIsBitIdentical) {
  for (const at::ScalarType dtype : {at::kDouble, at::kBFloat16}) {
    for (const MtpModel& model : kMtpModels) {
      Options options = mtp_options(model, kOneRank);
      options.model.transformer.params_dtype = dtype;
      options.model.transformer.bf16 = dtype == at::kBFloat16;
      const MicroBatch microbatch = mtp_microbatch(options.model, 0, 0, 0, 2);
      const auto kept = gradients(options, microbatch);
      options.model.transformer.recompute = {.recompute_granularity = RecomputeGranularity::full,
                                             .recompute_method = RecomputeMethod::uniform,
                                             .recompute_num_layers = 2,
                                             .recompute_modules = {}};
      for (const auto& [name, gradient] : gradients(options, microbatch))
        test::expect_identical(gradient, kept.at(name), model.name + (": " + name));
    }
  }
}

TEST_F(MtpModelTest, SchedulePlanEqualsForwardAndBackward) {
  for (const MtpModel& kind : kMtpModels) {
    const Options options = mtp_options(kind, kOneRank);
    const MicroBatch microbatch = mtp_microbatch(options.model, 0, 0, 0, 2);
    const ForwardContext context =
        ForwardContext::make(true, 7, microbatch.sample_ordinals, 16, false, 0, 1);
    const GPTModelInput input{.input_ids = microbatch.tokens,
                              .position_ids = microbatch.position_ids,
                              .labels = microbatch.labels,
                              .loss_mask = microbatch.loss_mask};
    const at::Tensor output_grad = test::random_tensor({2, 16}, at::kDouble, 70);
    const auto groups = ProcessGroupCollection::single_rank();
    const auto plain = initialized(options.model, groups),
               planned = initialized(options.model, groups);
    const at::Tensor expected = plain->forward(input, context);
    torch::autograd::backward({expected}, {output_grad});
    const auto plan = planned->build_schedule_plan(input, context);
    test::expect_identical(TransformerModelChunkSchedulePlan::run(plan.get(), nullptr).detach(),
                           expected.detach());
    TransformerModelChunkSchedulePlan::run(nullptr, plan.get(), output_grad);
    const auto ours = planned->parameters(), theirs = plain->parameters();
    for (size_t i = 0; i < theirs.size(); ++i)
      test::expect_identical(ours[i]->data.grad(), theirs[i]->data.grad(), theirs[i]->name);
  }
}

TEST_F(MtpModelTest, LogitsWithoutGradModeAreThoseOfTheDecoder) {
  const Options options = options_without_dropout();
  Options plain = options;
  plain.model.transformer.mtp = {};
  const auto groups = ProcessGroupCollection::single_rank();
  const auto with = initialized(options.model, groups), without = initialized(plain.model, groups);
  const MicroBatch microbatch = mtp_microbatch(options.model, 0, 0, 0, 2);
  const at::NoGradGuard no_grad;
  const ForwardContext context =
      ForwardContext::make(false, 0, microbatch.sample_ordinals, 16, false, 0, 1);
  const GPTModelInput input{.input_ids = microbatch.tokens,
                            .position_ids = microbatch.position_ids};
  test::expect_identical(with->forward(input, context), without->forward(input, context));
}

// Without labels, the targets are the rolled ids, and the last position is masked.
TEST_F(MtpModelTest, TargetsDefaultToRolledIds) {
  const Options options = options_without_dropout();
  const auto model = initialized(options.model, ProcessGroupCollection::single_rank());
  const MicroBatch microbatch = mtp_microbatch(options.model, 0, 0, 0, 2);
  const ForwardContext context =
      ForwardContext::make(true, 0, microbatch.sample_ordinals, 16, false, 0, 1);
  GPTModelInput input{.input_ids = microbatch.tokens,
                      .position_ids = microbatch.position_ids,
                      .loss_mask = microbatch.loss_mask};
  std::vector<at::Tensor> parameters;
  for (const ParameterPtr& parameter : model->parameters()) parameters.push_back(parameter->data);
  const auto gradients_of = [&] {
    const at::Tensor output = model->forward(input, context);
    return torch::autograd::grad({(output * 0).sum()}, parameters, {}, {}, false, true);
  };
  const auto without_labels = gradients_of();
  input.labels = roll_left(microbatch.tokens, {});
  input.loss_mask = roll_left(microbatch.loss_mask, {});
  const auto with_labels = gradients_of();
  for (size_t i = 0; i < parameters.size(); ++i)
    test::expect_close(without_labels[i], with_labels[i], 1e-15, model->parameters()[i]->name);
}

TEST_F(MtpModelTest, ParameterNamesMatchMegatron) {
  const auto model =
      initialized(options_without_dropout().model, ProcessGroupCollection::single_rank());
  std::vector<std::string> names;
  for (const ParameterPtr& parameter : model->parameters()) names.push_back(parameter->name);
  for (const char* name : {"enorm.weight", "hnorm.weight", "eh_proj.weight",
                           "mtp_model_layer.self_attention.linear_qkv.weight",
                           "mtp_model_layer.mlp.linear_fc2.bias", "final_layernorm.bias"}) {
    EXPECT_THAT(names, testing::Contains(std::string("mtp.layers.1.") + name));
  }
}

TEST_F(MtpModelTest, SpecIsRequiredWithMtpLayers) {
  const Options options = options_without_dropout();
  test::expect_error(
      [&] {
        GPTModel(options.model, local_layer_spec(options.model.transformer),
                 PipelineStage::even(4, 0, 1), ProcessGroupCollection::single_rank(), at::kDouble);
      },
      "mtp_block_spec on a chunk with MTP layers only, but got none on one with them");
}

TEST_F(MtpModelTest, FlopsIncludeEachDepth) {
  Options options = options_without_dropout();
  const double two = model_flops(options.model, 3);
  options.model.transformer.mtp.mtp_num_layers = 0;
  const double none = model_flops(options.model, 3);
  options.model.transformer.num_layers = 6;
  const double six_layers = model_flops(options.model, 3);
  const double h = 32, v = 56, s = 16;
  EXPECT_DOUBLE_EQ(two - none, six_layers - none + 3 * 6 * s * 2 * (2 * h * h + h * v));
}

// Exposes protected members.
class OpenModel : public GPTModel {
 public:
  using GPTModel::GPTModel;
  using LanguageModule::embed;
  using LanguageModule::mtp_;
  using LanguageModule::output_layer_;
};

std::shared_ptr<OpenModel> open_model(const Options& options,
                                      const ProcessGroupCollection& groups) {
  const TransformerConfig& transformer = options.model.transformer;
  const auto stage =
      PipelineStage::even(transformer.num_layers, groups.pp->rank(), groups.pp->size());
  const LayerSpec spec = transformer_engine_layer_spec(options.model);
  auto model = std::make_shared<OpenModel>(options.model, spec, stage, groups, at::kDouble,
                                           mtp_block_spec(options.model, spec, stage));
  initialize_weights(*model, 1234);
  return model;
}

// The first position of a sequence attends to itself only, as a single step does.
TEST(MtpSingleStep, EqualsFirstPositionOfTraining) {
  for (const MtpModel& kind : kMtpModels) {
    for (const int tp : {1, 2}) {
      const MtpLayout layout{"tp", tp, tp, 1, false, kWholeMicrobatches};
      run_thread_world(tp, [&](RankContext& rank) {
        Options options = mtp_options(kind, layout);
        const auto groups = make_model_groups(options.model.transformer, rank);
        const auto model = open_model(options, groups);
        const at::NoGradGuard no_grad;
        const int64_t n = 3, s = 4;
        const at::Tensor hidden = test::random_tensor({s, n, 32}, at::kDouble, 60);
        const at::Tensor ids = (at::arange(n * s, at::kLong) * 13 % 50).view({n, s});
        const at::Tensor positions = at::arange(s, at::kLong).expand({n, s}).contiguous();
        const auto by_depth = model->mtp_->forward(
            hidden, ids, positions,
            [&](const at::Tensor& i, const at::Tensor& p, const ForwardContext& context) {
              return model->embed(i, p, context);
            },
            LayerInput{}, ForwardContext::make(false, 0, at::arange(n, at::kLong), s, false, 0, 1));
        at::Tensor step_hidden = hidden.narrow(0, 0, 1).transpose(0, 1);
        for (int64_t depth = 0; depth < 2; ++depth) {
          const auto [new_hidden, logits] = model->compute_mtp_single_step(
              step_hidden, ids.narrow(1, depth + 1, 1).t(), positions.narrow(1, depth + 1, 1).t(),
              kind.repeated ? std::nullopt : std::optional(depth));
          EXPECT_EQ(new_hidden.sizes(), at::IntArrayRef({n, 1, 32}));
          EXPECT_EQ(logits.sizes(), at::IntArrayRef({n, 1, options.model.padded_vocab_size()}));
          const at::Tensor trained = by_depth[depth].narrow(0, 0, 1);
          test::expect_close(new_hidden.transpose(0, 1), trained, 1e-12);
          const ParameterPtr tied =
              model->output_layer_->weight() ? nullptr : model->shared_embedding_or_output_weight();
          test::expect_close(logits.transpose(0, 1),
                             model->output_layer_->forward(trained, tied, true), 1e-12);
          step_hidden = new_hidden;
        }
      });
    }
  }
}

TEST(MtpSingleStep, InvalidArgumentsAreRefused) {
  Options options = mtp_options(kMtpModels[0], kOneRank);
  const auto groups = ProcessGroupCollection::single_rank();
  const auto model = open_model(options, groups);
  const at::Tensor hidden = at::zeros({2, 1, 32}, at::kDouble), ids = at::zeros({1, 2}, at::kLong);
  test::expect_error([&] { model->compute_mtp_single_step(hidden, ids, ids, 2); },
                     "Expected an MTP depth in [0, 2), but got 2");
  test::expect_error([&] { model->compute_mtp_single_step(hidden, ids, ids, -1); }, "but got -1");
  test::expect_error([&] { model->compute_mtp_single_step(hidden, ids.t(), ids); }, "[1, 2]");
  test::expect_error([&] { model->compute_mtp_single_step(hidden.transpose(0, 1), ids, ids); },
                     "[N, 1, 32]");
  options.model.transformer.mtp = {};
  test::expect_error(
      [&] { open_model(options, groups)->compute_mtp_single_step(hidden, ids, ids); },
      "mtp_num_layers");
}

TEST(MtpCudaGraphs, AreRefused) {
  Options options = mtp_options(kMtpModels[0], kOneRank);
  options.model.transformer.cuda_graph_impl = CudaGraphImpl::local;
  test::expect_error([&] { open_model(options, ProcessGroupCollection::single_rank()); },
                     "CUDA graphs are not supported");
}

}  // namespace
}  // namespace megatron
