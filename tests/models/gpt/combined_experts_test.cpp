// Schedule plans of layers with experts: bit-identical to forward and backward in expert-parallel
// ranks, and every all-to-all runs while the other micro-batch computes.
#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/base/error.h"
#include "megatron/data_parallel/gradient_buffer.h"
#include "megatron/parallel/model_groups.h"

#include "tests/models/gpt/small_gpt.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

constexpr int64_t kCombinedMicrobatches = 3, kCombinedRows = 2, kCombinedTokens = 8;

struct ExpertsCase {
  const char* name;
  void (*change)(GPTModelConfig&);
};

GPTModelConfig combined_config(const ExpertsCase& experts_case) {
  GPTModelConfig config = small_gpt_config();
  config.seq_length = kCombinedTokens;
  TransformerConfig& t = config.transformer;
  t.num_layers = 3;
  t.hidden_size = 16;
  t.init_method_std = 0.3;
  t.hidden_dropout = t.attention_dropout = 0.1;
  t.expert_model_parallel_size = 2;
  t.moe.num_moe_experts = 4;
  t.moe.moe_token_dispatcher_type = MoeTokenDispatcherType::alltoall;
  t.moe.moe_aux_loss_coeff = {0.1};
  t.moe.overlap_moe_expert_parallel_comm = true;
  experts_case.change(config);
  return config;
}

void add_shared_experts(GPTModelConfig& config) {
  config.transformer.moe.moe_shared_expert_intermediate_size = 12;
  config.transformer.moe.moe_shared_expert_gate = true;
}

// The gate has a gradient of its own, which forward and backward add in another order where the
// residual is the experts' input.
void add_ungated_shared_experts(GPTModelConfig& config) {
  config.transformer.moe.moe_shared_expert_intermediate_size = 12;
}

void recompute_norms(GPTModelConfig& config) {
  config.transformer.recompute.recompute_granularity = RecomputeGranularity::selective;
  config.transformer.recompute.recompute_modules = {"layernorm", "moe_act", "core_attn"};
}

const ExpertsCase kExpertsCases[] = {
    {"experts", [](GPTModelConfig&) {}},
    {"shared_experts", &add_shared_experts},
    {"every_other_layer", [](GPTModelConfig& c) { c.transformer.moe.moe_layer_freq = {2}; }},
    {"recomputed_norms", &recompute_norms},
    {"recomputed_norms_and_shared_experts",
     [](GPTModelConfig& c) {
       add_shared_experts(c);
       recompute_norms(c);
       c.transformer.recompute.recompute_modules.emplace_back("shared_experts");
     }},
    {"residual_after_norm",
     [](GPTModelConfig& c) {
       add_ungated_shared_experts(c);
       recompute_norms(c);
       c.transformer.apply_residual_connection_post_layernorm = true;
     }},
    {"norms_around_branches",
     [](GPTModelConfig& c) { c.transformer.norm_placement = NormPlacement::around; }},
    {"norms_after_branches",
     [](GPTModelConfig& c) {
       add_ungated_shared_experts(c);
       c.transformer.norm_placement = NormPlacement::after;
     }},
    {"probs_on_input",
     [](GPTModelConfig& c) {
       c.transformer.moe.moe_router_topk = 1;
       c.transformer.moe.moe_router_pre_softmax = true;
       c.transformer.moe.moe_apply_probs_on_input = true;
     }},
    {"capacity",
     [](GPTModelConfig& c) {
       c.transformer.moe.moe_expert_capacity_factor = 0.75;
       c.transformer.moe.moe_pad_expert_input_to_capacity = true;
     }},
    {"delayed_weight_gradients",
     [](GPTModelConfig& c) {
       add_shared_experts(c);
       c.transformer.moe.delay_wgrad_compute = true;
     }},
    {"multi_token_prediction", [](GPTModelConfig& c) { c.transformer.mtp.mtp_num_layers = 1; }},
};

// An expert-parallel rank's passes over its micro-batches.
class CombinedPassesRun {
 public:
  CombinedPassesRun(const GPTModelConfig& config, const RankContext& rank)
      : model_(build_gpt(config, 5, make_model_groups(config.transformer, rank))),
        gradients_(model_->parameters(), {}, 1),
        rank_(rank.rank) {}

  void run_sequentially() {
    for (int64_t i = 0; i < kCombinedMicrobatches; ++i) {
      const at::Tensor output = model_->forward(input(i), context(i));
      losses_.push_back(output.detach().clone());
      torch::autograd::backward({output}, {output_grad(i)});
    }
  }

  // Each forward pass with the backward pass of the micro-batch before.
  void run_combined() {
    std::unique_ptr<TransformerModelChunkSchedulePlan> previous;
    for (int64_t i = 0; i <= kCombinedMicrobatches; ++i) {
      std::unique_ptr<TransformerModelChunkSchedulePlan> next;
      if (i < kCombinedMicrobatches) next = model_->build_schedule_plan(input(i), context(i));
      const at::Tensor output = TransformerModelChunkSchedulePlan::run(
          next.get(), previous.get(), previous ? output_grad(i - 1) : at::Tensor());
      if (next) losses_.push_back(output.clone());
      previous = std::move(next);
    }
  }

  const GPTModel& model() const { return *model_; }
  const std::vector<at::Tensor>& losses() const { return losses_; }

 private:
  int64_t ordinal(int64_t i) const { return 2 * i + rank_; }

  GPTModelInput input(int64_t i) const {
    GPTModelInput input = token_input(kCombinedRows, kCombinedTokens);
    input.input_ids = (input.input_ids * (1 + ordinal(i)) + 7 * ordinal(i)) % 100;
    input.labels = (input.input_ids * 3 + 1) % 100;
    return input;
  }

  ForwardContext context(int64_t i) const {
    const int64_t first = ordinal(i) * kCombinedRows;
    return ForwardContext::make(/*training=*/true, 11,
                                at::arange(first, first + kCombinedRows, at::kLong),
                                kCombinedTokens, /*sequence_parallel=*/false, 0, 1);
  }

  at::Tensor output_grad(int64_t i) const {
    return at::arange(1 + i, kCombinedRows * kCombinedTokens + 1 + i, at::kFloat)
        .cos()
        .view({kCombinedRows, kCombinedTokens});
  }

  std::shared_ptr<GPTModel> model_;
  GradientBuffer gradients_;
  int64_t rank_;
  std::vector<at::Tensor> losses_;
};

class CombinedExperts : public testing::TestWithParam<ExpertsCase> {};

TEST_P(CombinedExperts, AreBitIdenticalToForwardAndBackward) {
  const GPTModelConfig config = combined_config(GetParam());
  run_thread_world(2, [&](RankContext& rank) {
    CombinedPassesRun plain(config, rank), combined(config, rank);
    plain.run_sequentially();
    combined.run_combined();
    ASSERT_EQ(plain.losses().size(), combined.losses().size());
    for (size_t i = 0; i < plain.losses().size(); ++i)
      EXPECT_TRUE(plain.losses()[i].equal(combined.losses()[i])) << "loss " << i;
    const auto expected = plain.model().parameters(), ours = combined.model().parameters();
    for (size_t i = 0; i < expected.size(); ++i) {
      if (!expected[i]->main_grad.defined()) continue;
      EXPECT_GT(expected[i]->main_grad.abs().max().item<double>(), 0) << expected[i]->name;
      EXPECT_TRUE(ours[i]->main_grad.equal(expected[i]->main_grad)) << expected[i]->name;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Table, CombinedExperts, testing::ValuesIn(kExpertsCases),
                         [](const auto& info) { return info.param.name; });

// The ranges that a thread begins and ends. Callbacks travel to other threads, which have none.
thread_local std::vector<std::string>* t_ranges = nullptr;

void note_range(const char* what, const at::RecordFunction& range) {
  if (t_ranges != nullptr) t_ranges->push_back(fmt::format("{} {}", what, range.name()));
}

class RecordedRanges {
 public:
  RecordedRanges() {
    t_ranges = &ranges_;
    handle_ = at::addThreadLocalCallback(
        at::RecordFunctionCallback(
            [](const at::RecordFunction& range) -> std::unique_ptr<at::ObserverContext> {
              note_range("begin", range);
              return nullptr;
            },
            [](const at::RecordFunction& range, at::ObserverContext*) { note_range("end", range); })
            .scopes({at::RecordScope::USER_SCOPE}));
  }
  ~RecordedRanges() {
    at::removeCallback(handle_);
    t_ranges = nullptr;
  }

  // Only those of layers.
  std::vector<std::string> of_layers() const {
    std::vector<std::string> result;
    std::ranges::copy_if(ranges_, std::back_inserter(result), [](const std::string& range) {
      return range.find(" of layer ") != std::string::npos;
    });
    return result;
  }

 private:
  std::vector<std::string> ranges_;
  at::CallbackHandle handle_;
};

TEST(CombinedExpertsOrder, EveryAllToAllRunsWhileTheOtherMicrobatchComputes) {
  GPTModelConfig config = combined_config(kExpertsCases[0]);
  config.transformer.num_layers = 1;
  run_thread_world(2, [&](RankContext& rank) {
    const auto groups = make_model_groups(config.transformer, rank);
    const auto model = build_gpt(config, 5, groups);
    const GradientBuffer gradients(model->parameters(), {}, 1);
    const auto plan = [&] {
      return model->build_schedule_plan(token_input(2, kCombinedTokens),
                                        evaluation_context(2, kCombinedTokens));
    };
    const auto first = plan(), second = plan();
    const at::Tensor logits = TransformerModelChunkSchedulePlan::run(first.get(), nullptr);
    const RecordedRanges ranges;
    TransformerModelChunkSchedulePlan::run(second.get(), first.get(), at::ones_like(logits));
    const std::vector<std::string> expected = {"begin combine all-to-all of layer 1, backward",
                                               "begin attention of layer 1, forward",
                                               "end attention of layer 1, forward",
                                               "begin dispatch all-to-all of layer 1, forward",
                                               "end combine all-to-all of layer 1, backward",
                                               "begin mlp of layer 1, backward",
                                               "end mlp of layer 1, backward",
                                               "begin dispatch all-to-all of layer 1, backward",
                                               "begin weight gradients of layer 1, backward",
                                               "end weight gradients of layer 1, backward",
                                               "end dispatch all-to-all of layer 1, forward",
                                               "begin mlp of layer 1, forward",
                                               "end mlp of layer 1, forward",
                                               "begin combine all-to-all of layer 1, forward",
                                               "end dispatch all-to-all of layer 1, backward",
                                               "begin attention of layer 1, backward",
                                               "end attention of layer 1, backward",
                                               "end combine all-to-all of layer 1, forward"};
    EXPECT_EQ(ranges.of_layers(), expected);
    TransformerModelChunkSchedulePlan::run(nullptr, second.get(), at::ones_like(logits));
  });
}

}  // namespace
}  // namespace megatron
