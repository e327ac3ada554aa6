// Schedule plans are bit-identical to forward and backward, run alone or interleaved, with every
// data-parallel sharding strategy.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/base/error.h"
#include "megatron/data_parallel/gradient_buffer.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/transformer/static_inference_context.h"

#include "tests/models/gpt/small_gpt.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

using Plan = TransformerModelChunkSchedulePlan;

constexpr int64_t kMicrobatchCount = 3, kPassRows = 2, kPassTokens = 8;

struct PlanCase {
  const char* name;
  int64_t tp, pp;
  bool sequence_parallel, llama;
  int64_t mtp_layers = 0;
};

GPTModelConfig plan_config(const PlanCase& plan_case) {
  GPTModelConfig config;
  config.vocab_size = 50;
  config.make_vocab_size_divisible_by = 2;
  config.should_pad_vocab = true;
  config.share_embeddings_and_output_weights = true;
  config.seq_length = kPassTokens;
  TransformerConfig& transformer = config.transformer;
  transformer.num_layers = 4;
  transformer.hidden_size = 32;
  transformer.num_attention_heads = 4;
  transformer.hidden_dropout = transformer.attention_dropout = 0.1;
  transformer.tensor_model_parallel_size = plan_case.tp;
  transformer.pipeline_model_parallel_size = plan_case.pp;
  transformer.sequence_parallel = plan_case.sequence_parallel;
  transformer.mtp.mtp_num_layers = plan_case.mtp_layers;
  if (plan_case.llama) {
    config.position_embedding_type = PositionEmbeddingType::rope;
    config.share_embeddings_and_output_weights = false;
    transformer.num_query_groups = 2;
    transformer.normalization = Normalization::RMSNorm;
    transformer.activation_func = ActivationFunction::silu;
    transformer.gated_linear_unit = true;
    transformer.add_bias_linear = false;
  }
  return config;
}

// One pipeline rank's passes over three micro-batches, with communication.
class StageRun {
 public:
  StageRun(const PlanCase& plan_case, const RankContext& rank)
      : model_(build_gpt(plan_config(plan_case), 5,
                         make_model_groups(plan_config(plan_case).transformer, rank))),
        gradients_(model_->parameters(), {}, 1) {}

  // Forward and backward of each micro-batch in turn.
  void run_sequentially() {
    for (int64_t i = 0; i < kMicrobatchCount; ++i) {
      const at::Tensor input = receive_input();
      const at::Tensor output = model_->forward(pass_input(i), pass_context(i));
      finish_forward(output.detach());
      send(output.detach(), pp().rank() + 1);
      torch::autograd::backward({output}, {output_grad(i)});
      if (input.defined()) send(input.grad(), pp().rank() - 1);
    }
    flush();
  }

  // The forward of each micro-batch interleaved with the backward of an earlier one. The distance
  // is the number of stages from this one to the last, inclusive.
  void run_interleaved() {
    const int64_t behind = pp().size() - pp().rank();
    std::vector<std::unique_ptr<Plan>> plans(kMicrobatchCount);
    for (int64_t step = 0; step < kMicrobatchCount + behind; ++step) {
      const int64_t next = step, last = step - behind;
      Plan* forward = nullptr;
      Plan* backward = nullptr;
      ChunkScheduleHooks hooks;
      if (next < kMicrobatchCount) {
        plans[next] = model_->build_schedule_plan(pass_input(next), pass_context(next));
        forward = plans[next].get();
        hooks.pre_forward = [&] { receive_input(); };
        hooks.post_forward = [&](const at::Tensor& hidden) { send(hidden, pp().rank() + 1); };
      }
      if (last >= 0) {
        backward = plans[last].get();
        hooks.post_backward = [&](const at::Tensor& grad) { send(grad, pp().rank() - 1); };
      }
      const at::Tensor grad = backward != nullptr ? output_grad(last) : at::Tensor();
      const at::Tensor output = Plan::run(forward, backward, grad, hooks);
      if (forward != nullptr) finish_forward(output);
    }
    flush();
  }

  GPTModel& model() { return *model_; }
  const std::vector<at::Tensor>& losses() const { return losses_; }

 private:
  enum : int { kForwardTag = 1, kBackwardTag = 2 };

  const ProcessGroup& pp() const { return *model_->groups().pp; }

  static GPTModelInput pass_input(int64_t i) {
    GPTModelInput input = token_input(kPassRows, kPassTokens, 50);
    input.input_ids = (input.input_ids + 7 * i) % 50;
    input.labels = (input.input_ids * 3 + 1) % 50;
    return input;
  }

  ForwardContext pass_context(int64_t i) const {
    const ProcessGroup& tp = *model_->groups().tp;
    return ForwardContext::make(
        /*training=*/true, 11, at::arange(i * kPassRows, (i + 1) * kPassRows, at::kLong),
        kPassTokens, model_->config().transformer.sequence_parallel, tp.rank(), tp.size());
  }

  std::vector<int64_t> hidden_shape() const {
    const int64_t s = model_->config().transformer.sequence_parallel
                          ? kPassTokens / model_->groups().tp->size()
                          : kPassTokens;
    return {s, kPassRows, model_->config().transformer.hidden_size};
  }

  at::Tensor receive_input() {
    if (pp().is_first()) return {};
    at::Tensor input = at::empty(hidden_shape(), model_->activation_options());
    pp().recv(input, pp().rank() - 1, kForwardTag);
    model_->set_input_tensor(input.requires_grad_());
    return input;
  }

  at::Tensor output_grad(int64_t i) const {
    if (pp().is_last())
      return at::arange(1 + i, kPassRows * kPassTokens + 1 + i, at::kFloat)
          .cos()
          .view({kPassRows, kPassTokens});
    at::Tensor grad = at::empty(hidden_shape(), model_->activation_options());
    pp().recv(grad, pp().rank() + 1, kBackwardTag);
    return grad;
  }

  void send(const at::Tensor& tensor, int to) {
    if (to < 0 || to >= pp().size()) return;
    sent_.push_back(
        pp().isend(tensor.contiguous(), to, to > pp().rank() ? kForwardTag : kBackwardTag));
  }

  void flush() {
    for (const auto& pending : sent_) pending->wait();
    sent_.clear();
  }

  void finish_forward(const at::Tensor& output) {
    if (pp().is_last()) losses_.push_back(output.clone());
  }

  std::shared_ptr<GPTModel> model_;
  GradientBuffer gradients_;
  std::vector<at::Tensor> losses_;
  std::vector<std::shared_ptr<Work>> sent_;
};

class SchedulePlanLayouts : public testing::TestWithParam<PlanCase> {};

TEST_P(SchedulePlanLayouts, AreBitIdenticalToForwardAndBackward) {
  const PlanCase plan_case = GetParam();
  run_thread_world(static_cast<int>(plan_case.tp * plan_case.pp), [&](RankContext& rank) {
    StageRun plain(plan_case, rank), interleaved(plan_case, rank);
    plain.run_sequentially();
    interleaved.run_interleaved();
    ASSERT_EQ(plain.losses().size(), interleaved.losses().size());
    for (size_t i = 0; i < plain.losses().size(); ++i)
      EXPECT_TRUE(plain.losses()[i].equal(interleaved.losses()[i])) << "loss " << i;
    const auto expected = plain.model().parameters(), ours = interleaved.model().parameters();
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_GT(expected[i]->main_grad.abs().max().item<double>(), 0) << expected[i]->name;
      EXPECT_TRUE(ours[i]->main_grad.equal(expected[i]->main_grad)) << expected[i]->name;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Table, SchedulePlanLayouts,
                         testing::Values(PlanCase{"gpt2", 1, 1, false, false},
                                         PlanCase{"llama", 1, 1, false, true},
                                         PlanCase{"gpt2_tp2", 2, 1, false, false},
                                         PlanCase{"llama_tp2_sp", 2, 1, true, true},
                                         PlanCase{"gpt2_pp2", 1, 2, false, false},
                                         PlanCase{"llama_tp2_pp2", 2, 2, false, true},
                                         PlanCase{"gpt2_mtp", 1, 1, false, false, 2},
                                         PlanCase{"gpt2_mtp_pp2", 1, 2, false, false, 2}),
                         [](const auto& info) { return info.param.name; });

std::unique_ptr<Plan> plan_of(GPTModel& model) {
  return model.build_schedule_plan(token_input(2, 4), evaluation_context(2, 4));
}

TEST(SchedulePlan, IsLazy) {
  const GPTModelConfig config = small_gpt_config();
  GPTModel last(config, local_layer_spec(config.transformer),
                {.rank = 1,
                 .size = 2,
                 .pre_process = false,
                 .post_process = true,
                 .first_layer = 1,
                 .num_layers = 1},
                ProcessGroupCollection::single_rank(), at::TensorOptions().dtype(at::kFloat));
  const auto plan = plan_of(last);
  EXPECT_EQ(plan->num_layers(), 1);
  EXPECT_THROW(Plan::run(plan.get(), nullptr), Error) << "no input tensor yet";
}

TEST(SchedulePlan, DenseLayersHaveEmptyAllToAllNodes) {
  const auto model = build_gpt(small_gpt_config());
  const auto plan = plan_of(*model);
  ASSERT_EQ(plan->num_layers(), 2);
  const TransformerLayerSchedulePlan& layer = plan->layer(0);
  EXPECT_FALSE(layer.pre_dispatch_computation.is_empty() || layer.mlp.is_empty());
  EXPECT_TRUE(layer.moe_dispatch.is_empty() && layer.moe_combine.is_empty() &&
              layer.post_combine_computation.is_empty());
}

TEST(SchedulePlan, EqualsForwardWithoutGradMode) {
  const at::NoGradGuard no_grad;
  const auto model = build_gpt(small_gpt_config());
  const at::Tensor logits = Plan::run(plan_of(*model).get(), nullptr);
  EXPECT_TRUE(logits.equal(model->forward(token_input(2, 4), evaluation_context(2, 4))));
}

TEST(SchedulePlan, InvalidUseIsRefused) {
  GPTModelConfig config = small_gpt_config();
  const auto model = build_gpt(config);
  StaticInferenceContext context(4);
  GPTModelInput decoding = token_input(2, 4);
  decoding.inference_context = &context;
  decoding.runtime_gather_output = true;
  EXPECT_THROW(model->build_schedule_plan(decoding, evaluation_context(2, 4)), Error);
  GPTModelInput wrong = token_input(2, 4);
  wrong.labels = at::zeros({1, 4}, at::kLong);
  EXPECT_THROW(model->build_schedule_plan(wrong, evaluation_context(2, 4)), Error);

  const auto plan = plan_of(*model);
  const at::Tensor grad = at::ones({2, 4, 100});
  EXPECT_THROW(Plan::run(nullptr, nullptr), Error);
  EXPECT_THROW(Plan::run(plan.get(), plan.get(), grad), Error);
  EXPECT_THROW(Plan::run(nullptr, plan.get()), Error) << "no gradient";
  EXPECT_THROW(Plan::run(nullptr, plan.get(), grad), Error) << "no forward yet";
  Plan::run(plan.get(), nullptr);
  EXPECT_THROW(Plan::run(plan.get(), nullptr), Error) << "forward twice";
  EXPECT_NO_THROW(Plan::run(nullptr, plan.get(), grad));

  config.transformer.recompute.recompute_granularity = RecomputeGranularity::full;
  EXPECT_THROW(plan_of(*build_gpt(config)), Error);
}

}  // namespace
}  // namespace megatron
