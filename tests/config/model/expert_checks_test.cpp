// Refusals of configurations with experts name what works.
#include <functional>
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/config/model/model_checks.h"

namespace megatron {
namespace {

GPTModelConfig expert_model() {
  GPTModelConfig config;
  config.vocab_size = 128;
  config.seq_length = 32;
  TransformerConfig& t = config.transformer;
  t.num_layers = 4;
  t.hidden_size = 32;
  t.num_attention_heads = 4;
  t.moe.num_moe_experts = 8;
  return config;
}

struct ExpertRefusal {
  const char* name;
  std::function<void(TransformerConfig&)> change;
  const char* message;
};

const ExpertRefusal kExpertRefusals[] = {
    {"ep_does_not_divide", [](auto& t) { t.expert_model_parallel_size = 3; },
     "that divides the 8 experts, but got 3; 2 or 4 would work"},
    {"etp_does_not_divide", [](auto& t) { t.moe.expert_tensor_parallel_size = 3; },
     "divisible by the expert tensor parallel size (3), but got 128"},
    {"topk_above_experts", [](auto& t) { t.moe.moe_router_topk = 9; },
     "moe_router_topk of 1 to the 8 experts, but got 9; 8 works"},
    {"layer_list_of_another_length",
     [](auto& t) {
       t.moe.moe_layer_freq = {0, 1, 1};
     },
     "one entry for each of the 4 layers, but got 3"},
    {"layer_list_of_other_numbers",
     [](auto& t) {
       t.moe.moe_layer_freq = {0, 1, 2, 1};
     },
     "0 (dense) or 1 (experts)"},
    {"groups_do_not_divide",
     [](auto& t) {
       t.moe.moe_router_num_groups = 3;
       t.moe.moe_router_group_topk = 1;
     },
     "moe_router_num_groups that divides the 8 experts, but got 3; 2 or 4 would work"},
    {"group_topk_does_not_divide",
     [](auto& t) {
       t.moe.moe_router_num_groups = 4;
       t.moe.moe_router_group_topk = 3;
       t.moe.moe_router_topk = 4;
     },
     "moe_router_group_topk that divides moe_router_topk (4), but got 3"},
    {"groups_without_group_topk", [](auto& t) { t.moe.moe_router_num_groups = 4; },
     "Expected both moe_router_num_groups and moe_router_group_topk"},
    {"capacity_with_sinkhorn",
     [](auto& t) {
       t.moe.moe_router_load_balancing_type = {"sinkhorn"};
       t.moe.moe_expert_capacity_factor = 1;
     },
     "sinkhorn, whose router has no capacity"},
    {"padding_without_capacity", [](auto& t) { t.moe.moe_pad_expert_input_to_capacity = true; },
     "Expected moe_expert_capacity_factor with moe_pad_expert_input_to_capacity"},
    {"top1_softmax", [](auto& t) { t.moe.moe_router_topk = 1; },
     "Expected moe_router_pre_softmax with moe_router_topk 1"},
    {"pre_softmax_of_sigmoid",
     [](auto& t) {
       t.moe.moe_router_pre_softmax = true;
       t.moe.moe_router_score_function = MoeRouterScoreFunction::sigmoid;
     },
     "moe_router_score_function softmax with moe_router_pre_softmax, but got sigmoid"},
    {"unknown_loss", [](auto& t) { t.moe.moe_router_load_balancing_type = {"auxloss"}; },
     "sinkhorn or none, but got 'auxloss'"},
    {"coefficients_of_another_number",
     [](auto& t) {
       t.moe.moe_router_load_balancing_type = {"aux_loss", "seq_aux_loss", "global_aux_loss"};
       t.moe.moe_aux_loss_coeff = {0.1, 0.2};
     },
     "or one for each of the 3 values"},
    {"coefficient_without_loss",
     [](auto& t) {
       t.moe.moe_router_load_balancing_type = {"none"};
       t.moe.moe_aux_loss_coeff = {0.1};
     },
     "Expected moe_aux_loss_coeff 0 with moe_router_load_balancing_type none"},
    {"gate_without_shared_experts", [](auto& t) { t.moe.moe_shared_expert_gate = true; },
     "Expected moe_shared_expert_intermediate_size with moe_shared_expert_gate"},
    {"padding_of_rows", [](auto& t) { t.moe.moe_router_padding_for_quantization = 8; },
     "16, 32 or 128, but got 8"},
    {"combined_1f1b_without_ep", [](auto& t) { t.moe.overlap_moe_expert_parallel_comm = true; },
     "Expected expert_model_parallel_size above 1"},
    {"combined_1f1b_with_allgather",
     [](auto& t) {
       t.moe.overlap_moe_expert_parallel_comm = true;
       t.expert_model_parallel_size = 2;
       t.moe.moe_token_dispatcher_type = MoeTokenDispatcherType::allgather;
     },
     "but got 2 and allgather"},
    {"combined_1f1b_with_recomputed_experts",
     [](auto& t) {
       t.moe.overlap_moe_expert_parallel_comm = true;
       t.expert_model_parallel_size = 2;
       t.recompute.recompute_granularity = RecomputeGranularity::selective;
       t.recompute.recompute_modules = {"moe"};
     },
     "layernorm, moe_act and shared_experts work"},
    {"delayed_weight_gradients", [](auto& t) { t.moe.delay_wgrad_compute = true; },
     "Expected overlap_moe_expert_parallel_comm with delay_wgrad_compute"},
    {"dense_with_router_options",
     [](auto& t) {
       t.moe.num_moe_experts.reset();
       t.moe.moe_router_topk = 4;
     },
     "Expected num_moe_experts with moe_router_topk, but got none"},
    {"upcycling_of_another_width",
     [](auto& t) {
       t.moe.moe_use_upcycling = true;
       t.add_bias_linear = false;
       t.moe.moe_upcycling_granularity = 2;
     },
     "a moe_ffn_hidden_size of 64 works"},
};

TEST(ExpertChecks, RefusalsSayWhatWorks) {
  EXPECT_NO_THROW(check_model(expert_model()));
  for (const ExpertRefusal& refusal : kExpertRefusals) {
    GPTModelConfig config = expert_model();
    refusal.change(config.transformer);
    EXPECT_THAT([&] { check_model(config); },
                testing::ThrowsMessage<Error>(testing::HasSubstr(refusal.message)))
        << refusal.name;
  }
}

TEST(ExpertChecks, LayersWithExperts) {
  MoeConfig moe;
  EXPECT_FALSE(moe.is_moe_layer(1));
  moe.num_moe_experts = 4;
  EXPECT_TRUE(moe.is_moe_layer(1) && moe.is_moe_layer(2));
  moe.moe_layer_freq = {2};
  EXPECT_TRUE(moe.is_moe_layer(1) && !moe.is_moe_layer(2) && moe.is_moe_layer(3));
  moe.moe_layer_freq = {0, 1};
  EXPECT_TRUE(!moe.is_moe_layer(1) && moe.is_moe_layer(2));
}

TEST(ExpertChecks, LayerListsMayBeWrittenAsInPython) {
  GPTModelConfig config = expert_model();
  config.set("moe_layer_freq", "([0]*1+[1,0]*2)");
  EXPECT_EQ(config.transformer.moe.moe_layer_freq, (std::vector<int64_t>{0, 1, 0, 1, 0}));
  config.set("moe_layer_freq", 2);
  EXPECT_EQ(config.transformer.moe.moe_layer_freq, (std::vector<int64_t>{2}));
  config.set("moe_router_load_balancing_type", "seq_aux_loss");
  config.set("moe_aux_loss_coeff", 0.5);
  EXPECT_EQ(config.transformer.moe.aux_loss_coeff("seq_aux_loss"), 0.5);
  EXPECT_THAT([&] { config.set("moe_layer_freq", "0*3+1*2"); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("a list such as")));
}

}  // namespace
}  // namespace megatron
