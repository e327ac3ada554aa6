// A small model that trains for a few steps in a layout, and the numbers of the run.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/config/validate/validate.h"
#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/training/train_step.h"

#include "tests/models/gpt/built_model.h"
#include "tests/parallel/thread_world.h"
#include "tests/training/wrapped_models.h"

namespace megatron {

struct ShardedLayout {
  const char* name;
  int world;
  int64_t tp, pp;
  bool sequence_parallel;
  int64_t cp = 1;
};

// A data-parallel sharding strategy and its options.
struct Sharding {
  const char* name;
  DataParallelShardingStrategy strategy;
  bool overlap =
      false;  // of the gradient reduction, and of the parameter gather where there is one
  bool overlap_with_step = false;
  bool full_recomputation = false;
  bool torch_fsdp2 = false;  // with optim_grads_params, of which it shards as much
  bool reshard_after_forward = true;
};

inline constexpr Sharding kPlain = {"plain", DataParallelShardingStrategy::no_shard};

// Sizes that no power of two divides, so that shards end within rows, and buckets of about one
// matrix.
inline Options sharded_options(const ShardedLayout& layout, const Sharding& sharding,
                               at::ScalarType dtype) {
  Options options;
  GPTModelConfig& model = options.model;
  model.vocab_size = 53;
  model.make_vocab_size_divisible_by = 3;
  model.seq_length = 8;
  model.max_position_embeddings = 11;
  TransformerConfig& transformer = model.transformer;
  transformer.num_layers = 4;
  transformer.hidden_size = 20;
  transformer.ffn_hidden_size = 34;
  transformer.num_attention_heads = 2;
  transformer.init_method_std = 0.2;
  transformer.hidden_dropout = transformer.attention_dropout = 0;
  transformer.params_dtype = dtype;
  transformer.bf16 = dtype == at::kBFloat16;
  transformer.tensor_model_parallel_size = layout.tp;
  transformer.pipeline_model_parallel_size = layout.pp;
  transformer.context_parallel_size = layout.cp;
  transformer.sequence_parallel = layout.sequence_parallel;
  if (sharding.full_recomputation) {
    transformer.recompute = {.recompute_granularity = RecomputeGranularity::full,
                             .recompute_method = RecomputeMethod::uniform,
                             .recompute_num_layers = 1,
                             .recompute_modules = {}};
  }
  const bool shares = sharding.strategy != DataParallelShardingStrategy::no_shard;
  options.ddp.bucket_size = 1500;
  options.ddp.overlap_grad_reduce = sharding.overlap;
  options.ddp.overlap_param_gather = sharding.overlap && shares;
  options.ddp.use_distributed_optimizer = sharding.strategy == DataParallelShardingStrategy::optim;
  options.ddp.use_torch_fsdp2 = sharding.torch_fsdp2;
  options.ddp.torch_fsdp2_reshard_after_forward = sharding.reshard_after_forward;
  options.ddp.use_megatron_fsdp =
      shares && !options.ddp.use_distributed_optimizer && !sharding.torch_fsdp2;
  if (options.ddp.use_megatron_fsdp)
    options.ddp.data_parallel_sharding_strategy = sharding.strategy;
  options.optimizer.overlap_param_gather_with_optimizer_step = sharding.overlap_with_step;
  options.optimizer.weight_decay = 0.1;
  // The exact gradient of a key's bias is zero: a large epsilon keeps its rounding error from being
  // scaled up.
  options.optimizer.adam_eps = 1e-4;
  validate(options, layout.world, Command::bench);
  return options;
}

// Micro-batches of two rows with uneven loss masks.
inline MicroBatch numbered_microbatch(const GPTModelConfig& config, int64_t index) {
  constexpr int64_t rows = 2;
  const int64_t s = config.seq_length;
  const at::Tensor text =
      ((at::arange(rows * (s + 1), at::kLong) + 97 * index) * 31 % 47).view({rows, s + 1});
  at::Tensor mask = at::ones({rows, s});
  mask[0].narrow(0, 0, index % 5).zero_();
  return {.tokens = text.narrow(1, 0, s).contiguous(),
          .position_ids = at::arange(s, at::kLong).expand({rows, s}).contiguous(),
          .labels = text.narrow(1, 1, s).contiguous(),
          .loss_mask = mask,
          .attention_mask = {},
          .sample_ordinals = at::arange(index * rows, (index + 1) * rows, at::kLong)};
}

// The micro-batches of this rank, of the `count` in a step.
inline std::vector<MicroBatch> local_microbatches(const GPTModel& model, int64_t step,
                                                  int64_t count) {
  const ProcessGroup& dp = *model.groups().dp;
  const int64_t local = count / dp.size();
  std::vector<MicroBatch> microbatches;
  for (int64_t i = 0; i < local; ++i)
    microbatches.push_back(
        numbered_microbatch(model.config(), step * count + dp.rank() * local + i));
  return microbatches;
}

struct RunNumbers {
  std::vector<double> losses, grad_norms, evaluations;
  std::map<std::string, at::Tensor> gradients, weights;  // local; of the last step, and after it
};

// Whether a parameter is frozen on this rank.
using Freeze = std::function<bool(const Parameter& parameter, int rank)>;

struct TrainingRun {
  TrainingRun(const Options& options_, const RankContext& rank_, const Freeze& freeze = {})
      : options(options_),
        rank(rank_),
        groups(make_model_groups(options.model.transformer, rank)),
        model(build_gpt_model(options.model, groups, rank.device)) {
    initialize_weights(*model, /*seed=*/7);
    for (const ParameterPtr& parameter : model->parameters())
      if (freeze && freeze(*parameter, rank.rank)) parameter->data.requires_grad_(false);
    step.emplace(wrapped(model, options), options);
  }

  // `microbatches` of all ranks together in a step.
  RunNumbers train(int64_t steps, int64_t microbatches) {
    RunNumbers numbers;
    for (int64_t end = done + steps; done < end; ++done) {
      const auto local = local_microbatches(*model, done, microbatches);
      numbers.losses.push_back(
          step->forward_backward(local, BatchSharing::whole_microbatches).loss);
      if (done + 1 == end) {
        step->unshard_gradients();
        for (const ParameterPtr& parameter : step->parameters())
          numbers.gradients[parameter->name] = parameter->main_grad.clone();
      }
      numbers.grad_norms.push_back(step->optimizer().step(1e-2).grad_norm);
      const TrainStep::Evaluation evaluation = step->evaluate(local);
      numbers.evaluations.push_back(evaluation.loss_sum / evaluation.tokens);
    }
    step->unshard_parameters();
    for (const ParameterPtr& parameter : step->parameters())
      numbers.weights[parameter->name] = parameter->data.detach().clone();
    step->reshard_parameters();
    return numbers;
  }

  Options options;
  const RankContext& rank;
  ProcessGroupCollection groups;
  std::shared_ptr<GPTModel> model;
  std::optional<TrainStep> step;
  int64_t done = 0;
};

inline RunNumbers train_in_one_rank(const Options& options, int64_t steps, int64_t microbatches,
                                    const Freeze& freeze = {}) {
  RunNumbers numbers;
  run_thread_world(1, [&](RankContext& rank) {
    numbers = TrainingRun(options, rank, freeze).train(steps, microbatches);
  });
  return numbers;
}

// Compares the numbers of a rank in any layout with those of one rank.
inline void expect_near(const TrainingRun& run, const RunNumbers& got, const RunNumbers& want,
                        double tolerance) {
  const auto scalars = [&](const std::vector<double>& a, const std::vector<double>& b,
                           const char* what) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i)
      EXPECT_NEAR(a[i], b[i], tolerance * std::max(1.0, std::abs(b[i]))) << what << ' ' << i;
  };
  scalars(got.losses, want.losses, "loss");
  scalars(got.grad_norms, want.grad_norms, "gradient norm");
  scalars(got.evaluations, want.evaluations, "evaluation");
  for (const ParameterPtr& parameter : run.step->parameters()) {
    // On the last stage a tied embedding is named output_layer.weight.
    const std::string name = want.weights.contains(parameter->name)
                                 ? parameter->name
                                 : "embedding.word_embeddings.weight";
    const auto compare = [&](const at::Tensor& ours, const at::Tensor& global, const char* what) {
      const at::Tensor theirs = parameter->local_part(global).to(at::kDouble);
      const double difference = (ours.to(at::kDouble) - theirs).abs().max().item<double>();
      EXPECT_LE(difference, tolerance * std::max(1.0, theirs.abs().max().item<double>()))
          << what << " of " << parameter->name;
    };
    compare(got.gradients.at(parameter->name), want.gradients.at(name), "gradient");
    compare(got.weights.at(parameter->name), want.weights.at(name), "weight");
  }
}

inline void expect_same_bits(const RunNumbers& got, const RunNumbers& want) {
  EXPECT_EQ(got.losses, want.losses);
  EXPECT_EQ(got.evaluations, want.evaluations);
  for (const auto& [name, gradient] : want.gradients)
    EXPECT_TRUE(at::equal(got.gradients.at(name), gradient)) << "gradient of " << name;
  for (const auto& [name, weight] : want.weights)
    EXPECT_TRUE(at::equal(got.weights.at(name), weight)) << "weight " << name;
}

}  // namespace megatron
