// Training steps with overlapped collectives, deferred weight gradients and frozen weights equal
// training steps without, in several layouts.
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

struct StepLayout {
  const char* name;
  int world;
  int64_t tp, pp;
  bool sequence_parallel;
};

Options step_options(const StepLayout& layout, at::ScalarType dtype = at::kDouble) {
  Options options;
  GPTModelConfig& config = options.model;
  config.vocab_size = 50;
  config.make_vocab_size_divisible_by = 8;
  config.seq_length = 16;
  config.share_embeddings_and_output_weights = true;
  TransformerConfig& transformer = config.transformer;
  transformer.num_layers = 2 * layout.pp;
  transformer.hidden_size = 32;
  transformer.num_attention_heads = 4;
  transformer.params_dtype = dtype;
  transformer.hidden_dropout = transformer.attention_dropout = 0.1;
  transformer.tensor_model_parallel_size = layout.tp;
  transformer.pipeline_model_parallel_size = layout.pp;
  transformer.sequence_parallel = layout.sequence_parallel;
  return options;
}

MicroBatch step_microbatch(const GPTModelConfig& config, int64_t index) {
  constexpr int64_t rows = 2;
  const int64_t s = config.seq_length;
  const at::Tensor text =
      ((at::arange(rows * (s + 1), at::kLong) + 89 * index) * 31 % 47).view({rows, s + 1});
  return {.tokens = text.narrow(1, 0, s).contiguous(),
          .position_ids = at::arange(s, at::kLong).expand({rows, s}).contiguous(),
          .labels = text.narrow(1, 1, s).contiguous(),
          .loss_mask = at::ones({rows, s}),
          .attention_mask = {},
          .sample_ordinals = at::arange(index * rows, (index + 1) * rows, at::kLong)};
}

struct StepNumbers {
  std::vector<double> losses;
  std::map<std::string, at::Tensor> gradients,
      weights;  // gradients of the first step, weights after the second
  std::set<std::string> frozen;
};

using FreezeByName = std::function<bool(const std::string& name)>;

StepNumbers two_steps(
    const Options& options, const RankContext& rank,
    const FreezeByName& freeze = [](const std::string&) { return false; }) {
  const auto groups = make_model_groups(options.model.transformer, rank);
  const auto model = build_gpt_model(options.model, groups, rank.device);
  initialize_weights(*model, options.training.seed);
  StepNumbers numbers;
  for (const ParameterPtr& parameter : model->parameters()) {
    if (!freeze(parameter->name)) continue;
    parameter->data.requires_grad_(false);
    numbers.frozen.insert(parameter->name);
  }
  TrainStep step(wrapped(model, options), options);
  for (int64_t i = 0; i < 2; ++i) {
    std::vector<MicroBatch> microbatches;
    for (int64_t j = 0; j < 3; ++j)
      microbatches.push_back(step_microbatch(options.model, 3 * i + j));
    numbers.losses.push_back(
        step.forward_backward(microbatches, BatchSharing::whole_microbatches).loss);
    if (i == 0) {
      for (const ParameterPtr& parameter : step.parameters())
        numbers.gradients[parameter->name] = parameter->main_grad.clone();
    }
    step.optimize(1e-3);
  }
  for (const ParameterPtr& parameter : model->parameters()) {
    numbers.weights[parameter->name] = parameter->data.detach().clone();
    EXPECT_EQ(parameter->main_grad.defined(), parameter->data.requires_grad()) << parameter->name;
    EXPECT_FALSE(parameter->data.grad().defined()) << parameter->name;
  }
  EXPECT_EQ(step.optimizer().states().size() + numbers.frozen.size(), numbers.weights.size());
  return numbers;
}

void expect_close_numbers(const StepNumbers& got, const StepNumbers& want, double allowed,
                          const std::string& what) {
  ASSERT_EQ(got.losses.size(), want.losses.size());
  for (size_t i = 0; i < want.losses.size(); ++i)
    EXPECT_NEAR(got.losses[i], want.losses[i], allowed) << what << ", loss " << i;
  const auto compare = [&](const auto& a, const auto& b, const char* kind) {
    ASSERT_EQ(a.size(), b.size());
    for (const auto& [name, tensor] : b) {
      EXPECT_LE((a.at(name) - tensor).abs().max().template item<double>(), allowed)
          << what << ", " << kind << " of " << name;
    }
  };
  compare(got.gradients, want.gradients, "gradient");
  compare(got.weights, want.weights, "weight");
}

TEST(TensorParallelStep, OverlappedCollectivesGiveTheSameNumbers) {
  for (const StepLayout& layout :
       {StepLayout{"tp2", 2, 2, 1, true}, StepLayout{"tp4", 4, 4, 1, true},
        StepLayout{"tp2_pp2", 4, 2, 2, true}}) {
    for (const char* recomputed : {"", "layernorm", "mlp"}) {
      run_thread_world(layout.world, [&](RankContext& rank) {
        Options options = step_options(layout);
        if (*recomputed) {
          options.model.transformer.recompute.recompute_granularity =
              RecomputeGranularity::selective;
          options.model.transformer.recompute.recompute_modules = {recomputed};
        }
        const StepNumbers want = two_steps(options, rank);
        options.model.transformer.tp_comm_overlap = true;
        expect_close_numbers(two_steps(options, rank), want, 1e-10,
                             fmt::format("{} {}", layout.name, recomputed));
      });
    }
  }
}

class DeferredEmbeddingGradient : public testing::TestWithParam<StepLayout> {};

TEST_P(DeferredEmbeddingGradient, EqualsTheImmediateOne) {
  for (const bool tied : {true, false}) {
    for (const int64_t mtp_layers : {0, 1}) {
      run_thread_world(GetParam().world, [&](RankContext& rank) {
        Options options = step_options(GetParam());
        TransformerConfig& transformer = options.model.transformer;
        options.model.share_embeddings_and_output_weights = tied;
        transformer.mtp.mtp_num_layers = mtp_layers;
        const StepNumbers want = two_steps(options, rank);
        transformer.defer_embedding_wgrad_compute = true;
        for (const int64_t limit : {0, 1, 2, 7}) {
          transformer.wgrad_deferral_limit = limit;
          expect_close_numbers(
              two_steps(options, rank), want, 1e-10,
              fmt::format("tied {}, {} MTP layers, limit {}", tied, mtp_layers, limit));
        }
        transformer.wgrad_deferral_limit = 0;
        transformer.tp_comm_overlap = transformer.sequence_parallel;
        transformer.cross_entropy_loss_fusion = true;
        expect_close_numbers(two_steps(options, rank), want, 1e-10, "fused loss");
      });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, DeferredEmbeddingGradient,
                         testing::Values(StepLayout{"pp2", 2, 1, 2, false},
                                         StepLayout{"tp2_pp2", 4, 2, 2, false},
                                         StepLayout{"tp2_sp_pp2", 4, 2, 2, true},
                                         StepLayout{"pp2_dp2", 4, 1, 2, false}),
                         [](const auto& info) { return std::string(info.param.name); });

struct Freezing {
  const char* name;
  FreezeByName freeze;
};

const Freezing kFreezings[] = {
    {"embedding", [](const std::string& name) { return name.starts_with("embedding."); }},
    {"first layers",
     [](const std::string& name) {
       return name.starts_with("embedding.") || name.starts_with("decoder.layers.0.") ||
              name.starts_with("decoder.layers.1.");
     }},
    {"linear weights",
     [](const std::string& name) {
       return name.find("linear_") != std::string::npos && name.ends_with(".weight");
     }},
    {"all but norms",
     [](const std::string& name) {
       return name.find("layernorm") == std::string::npos &&
              name.find("layer_norm") == std::string::npos;
     }},
};

class FrozenWeights : public testing::TestWithParam<StepLayout> {};

TEST_P(FrozenWeights, StayConstantWithoutStateWhileOthersTrain) {
  const StepLayout& layout = GetParam();
  for (const Freezing& freezing : kFreezings) {
    for (const bool overlap : {false, true}) {
      if (overlap && !layout.sequence_parallel) continue;
      run_thread_world(layout.world, [&](RankContext& rank) {
        Options options = step_options(layout);
        options.model.share_embeddings_and_output_weights = false;
        const StepNumbers all = two_steps(options, rank);
        options.model.transformer.tp_comm_overlap = overlap;
        const StepNumbers some = two_steps(options, rank, freezing.freeze);
        EXPECT_NEAR(some.losses[0], all.losses[0], 1e-10) << freezing.name;
        EXPECT_EQ(some.gradients.size() + some.frozen.size(), all.gradients.size());
        for (const auto& [name, gradient] : some.gradients) {
          EXPECT_LE((gradient - all.gradients.at(name)).abs().max().item<double>(), 1e-10)
              << freezing.name << ", " << name;
        }
        const auto groups = make_model_groups(options.model.transformer, rank);
        const auto fresh = build_gpt_model(options.model, groups, rank.device);
        initialize_weights(*fresh, options.training.seed);
        for (const ParameterPtr& parameter : fresh->parameters()) {
          const bool stays = at::equal(parameter->data, some.weights.at(parameter->name));
          EXPECT_EQ(stays, some.frozen.contains(parameter->name))
              << freezing.name << ", " << parameter->name;
        }
      });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, FrozenWeights,
                         testing::Values(StepLayout{"one_rank", 1, 1, 1, false},
                                         StepLayout{"tp2", 2, 2, 1, false},
                                         StepLayout{"tp2_sp", 2, 2, 1, true},
                                         StepLayout{"dp2", 2, 1, 1, false},
                                         StepLayout{"tp2_sp_pp2", 4, 2, 2, true}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace megatron
