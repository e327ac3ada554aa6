// A training step through schedule plans equals one through forward and backward, bit for bit, with
// every data-parallel sharding strategy: plans run the modules' forward hooks, which gather sharded
// parameters.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/config/model/enum_names.h"
#include "megatron/data_parallel/distributed_data_parallel.h"
#include "megatron/data_parallel/shared_gradients.h"
#include "megatron/optimizer/optimizer.h"
#include "megatron/parallel/model_groups.h"

#include "tests/models/gpt/small_gpt.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

using Strategy = DataParallelShardingStrategy;

constexpr int64_t kPlanMicrobatches = 3;

struct ShardedPlan {
  Strategy strategy;
  bool overlap;  // of gradient reductions and parameter gathers
  int64_t mtp_layers = 0;
  bool torch_fsdp2 = false;
};

DistributedDataParallelConfig ddp_config(const ShardedPlan& plan) {
  const bool is_sharded = plan.strategy != Strategy::no_shard;
  DistributedDataParallelConfig config;
  config.bucket_size = 500;
  config.overlap_grad_reduce = plan.overlap;
  config.overlap_param_gather = plan.overlap && is_sharded;
  config.use_distributed_optimizer = plan.strategy == Strategy::optim;
  config.use_torch_fsdp2 = plan.torch_fsdp2;
  config.use_megatron_fsdp = is_sharded && !config.use_distributed_optimizer && !plan.torch_fsdp2;
  if (config.use_megatron_fsdp) config.data_parallel_sharding_strategy = plan.strategy;
  return config;
}

GPTModelConfig sharded_plan_config(int64_t mtp_layers) {
  GPTModelConfig config = small_gpt_config();
  config.transformer.num_layers = 4;
  config.transformer.params_dtype = at::kDouble;
  config.transformer.hidden_dropout = config.transformer.attention_dropout = 0.1;
  config.transformer.mtp.mtp_num_layers = mtp_layers;
  config.share_embeddings_and_output_weights = true;
  return config;
}

struct StepNumbers {
  std::vector<double> losses, grad_norms;
  std::vector<at::Tensor> weights;  // what this rank updates
};

// Two optimizer steps of one rank. The first updates what the second's gathers bring.
class StepRun {
 public:
  StepRun(const ShardedPlan& plan, const RankContext& rank)
      : groups_(make_model_groups(sharded_plan_config(plan.mtp_layers).transformer, rank)),
        model_(build_gpt(sharded_plan_config(plan.mtp_layers), 5, groups_)),
        data_parallel_(model_->module_groups(), ddp_config(plan), groups_.dp_cp),
        optimizer_(OptimizerConfig{}, {&data_parallel_}, groups_) {}

  StepNumbers run(bool through_plans) {
    StepNumbers numbers;
    for (int64_t step = 0; step < 2; ++step) {
      data_parallel_.zero_gradients();
      through_plans ? run_plans(step, numbers) : run_forward_and_backward(step, numbers);
      data_parallel_.finish_gradients();
      numbers.grad_norms.push_back(optimizer_.step(1e-2).grad_norm);
    }
    data_parallel_.wait_for_parameters();
    for (const auto& owned : data_parallel_.owned_slices())
      numbers.weights.push_back(owned.data.detach().clone());
    return numbers;
  }

 private:
  GPTModelInput input(int64_t index) const {
    GPTModelInput input = token_input(2, 4);
    input.input_ids = (input.input_ids + 7 * index) % 100;
    input.labels = (input.input_ids * 3 + 1) % 100;
    return input;
  }

  // Ordinal of this rank's micro-batch `i` of a step.
  int64_t ordinal(int64_t step, int64_t i) const {
    return (step * kPlanMicrobatches + i) * groups_.dp->size() + groups_.dp->rank();
  }

  ForwardContext context(int64_t index) const {
    return ForwardContext::make(/*training=*/true, 11,
                                at::arange(2 * index, 2 * index + 2, at::kLong), 4, false, 0, 1);
  }

  void run_forward_and_backward(int64_t step, StepNumbers& numbers) {
    for (int64_t i = 0; i < kPlanMicrobatches; ++i) {
      const int64_t index = ordinal(step, i);
      const at::Tensor losses = model_->forward(input(index), context(index));
      numbers.losses.push_back(losses.sum().item<double>());
      torch::autograd::backward({losses}, {at::ones_like(losses)});
    }
  }

  // Each forward is interleaved with the backward of the previous micro-batch.
  void run_plans(int64_t step, StepNumbers& numbers) {
    std::unique_ptr<TransformerModelChunkSchedulePlan> previous;
    for (int64_t i = 0; i <= kPlanMicrobatches; ++i) {
      std::unique_ptr<TransformerModelChunkSchedulePlan> next;
      if (i < kPlanMicrobatches) {
        const int64_t index = ordinal(step, i);
        next = model_->build_schedule_plan(input(index), context(index));
      }
      const at::Tensor losses = TransformerModelChunkSchedulePlan::run(
          next.get(), previous.get(), previous ? at::ones({2, 4}, at::kDouble) : at::Tensor());
      if (next) numbers.losses.push_back(losses.sum().item<double>());
      previous = std::move(next);
    }
  }

  ProcessGroupCollection groups_;
  std::shared_ptr<GPTModel> model_;
  DistributedDataParallel data_parallel_;
  Optimizer optimizer_;
};

void expect_same_numbers(const StepNumbers& ours, const StepNumbers& expected) {
  EXPECT_EQ(ours.losses, expected.losses);
  EXPECT_EQ(ours.grad_norms, expected.grad_norms);
  ASSERT_EQ(ours.weights.size(), expected.weights.size());
  for (size_t i = 0; i < ours.weights.size(); ++i)
    EXPECT_TRUE(at::equal(ours.weights[i], expected.weights[i])) << "weights " << i;
}

class ShardedSchedulePlans : public testing::TestWithParam<ShardedPlan> {};

TEST_P(ShardedSchedulePlans, StepIsBitIdenticalToForwardAndBackward) {
  run_thread_world(2, [&](RankContext& rank) {
    const StepNumbers expected = StepRun(GetParam(), rank).run(/*through_plans=*/false);
    expect_same_numbers(StepRun(GetParam(), rank).run(/*through_plans=*/true), expected);
    const StepNumbers unsharded = StepRun({Strategy::no_shard, false, GetParam().mtp_layers}, rank)
                                      .run(/*through_plans=*/false);
    for (size_t i = 0; i < expected.losses.size(); ++i)
      EXPECT_NEAR(expected.losses[i], unsharded.losses[i], 1e-10);
    for (size_t i = 0; i < expected.grad_norms.size(); ++i)
      EXPECT_NEAR(expected.grad_norms[i], unsharded.grad_norms[i], 1e-10);
  });
}

INSTANTIATE_TEST_SUITE_P(Strategies, ShardedSchedulePlans,
                         testing::Values(ShardedPlan{Strategy::no_shard, false},
                                         ShardedPlan{Strategy::no_shard, true},
                                         ShardedPlan{Strategy::optim, false},
                                         ShardedPlan{Strategy::optim, true},
                                         ShardedPlan{Strategy::optim_grads, false},
                                         ShardedPlan{Strategy::optim_grads, true},
                                         ShardedPlan{Strategy::optim_grads_params, false},
                                         ShardedPlan{Strategy::optim_grads_params, true},
                                         ShardedPlan{Strategy::optim_grads_params, true, 2},
                                         ShardedPlan{Strategy::optim_grads_params, false, 0, true},
                                         ShardedPlan{Strategy::optim_grads_params, true, 2, true}),
                         [](const auto& info) {
                           return fmt::format("{}{}{}{}", enum_name(info.param.strategy),
                                              info.param.overlap ? "_overlapped" : "",
                                              info.param.mtp_layers > 0 ? "_mtp" : "",
                                              info.param.torch_fsdp2 ? "_by_rows" : "");
                         });

}  // namespace
}  // namespace megatron
