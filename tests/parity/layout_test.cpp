// All cases on one rank and in every parallel layout, with ranks as threads.
#include <gmock/gmock.h>
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "megatron/config/validate/validate.h"
#include "megatron/parity/parity_run.h"

#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

struct Layout {
  const char* name;
  int world;
  int64_t tp, pp;
  bool sequence_parallel;
  int64_t cp = 1;
  CpCommType cp_comm_type = CpCommType::p2p;
};

constexpr Layout kLayouts[] = {
    {"one_rank", 1, 1, 1, false},
    {"tp2", 2, 2, 1, false},
    {"tp2_sp", 2, 2, 1, true},
    {"pp2", 2, 1, 2, false},
    {"dp2", 2, 1, 1, false},
    {"tp2_pp2", 4, 2, 2, false},
    {"tp2_sp_pp2", 4, 2, 2, true},
    {"tp2_dp2", 4, 2, 1, false},
    {"pp2_dp2", 4, 1, 2, false},
    {"tp4", 4, 4, 1, false},
    {"tp2_pp2_dp2", 8, 2, 2, false},
    {"cp2", 2, 1, 1, false, 2},
    {"cp2_a2a_dp2", 4, 1, 1, false, 2, CpCommType::a2a},
    {"cp2_tp2_sp_pp2", 8, 2, 2, true, 2, CpCommType::allgather},
};

constexpr const char* kCases[] = {"gpt2",
                                  "gpt2_deep",
                                  "gpt2_deep_per_token",
                                  "gpt2_loss_mask",
                                  "gpt2_per_token_loss",
                                  "gpt2_doc_mask",
                                  "gpt2_bias_gelu_fusion",
                                  "gpt2_sgd",
                                  "gpt2_recompute_full_uniform",
                                  "gpt2_recompute_selective",
                                  "llama",
                                  "llama_deep",
                                  "llama_mha",
                                  "llama_qkv_bias",
                                  "llama_rotary_interleaved",
                                  "llama_rotary_percent_half",
                                  "llama_rope_interpolation2",
                                  "llama_rope_scaling_l31",
                                  "llama_squared_relu",
                                  "llama_softmax_scale",
                                  "gpt2_mup_tied",
                                  "llama_attention_output_gate",
                                  "llama_gptoss_glu",
                                  "llama_mrope",
                                  "llama_mup",
                                  "llama_no_rope_freq2",
                                  "llama_qk_clip",
                                  "llama_qk_layernorm",
                                  "llama_recompute_selective_mlp",
                                  "llama_softmax_learnable",
                                  "llama_window",
                                  "llama_yarn",
                                  "mla",
                                  "mla_no_q_lora",
                                  "mla_yarn",
                                  "mtp1",
                                  "mtp1_deep",
                                  "mtp1_detach_heads",
                                  "mtp2"};

class ParityInLayout : public testing::TestWithParam<Layout> {};

Options options_for(const ParityCase& parity_case, const Layout& layout) {
  Options options;
  options.model.transformer.tensor_model_parallel_size = layout.tp;
  options.model.transformer.pipeline_model_parallel_size = layout.pp;
  options.model.transformer.sequence_parallel = layout.sequence_parallel;
  options.model.transformer.context_parallel_size = layout.cp;
  options.model.transformer.cp_comm_type = layout.cp_comm_type;
  parity_case.configure(options, /*keep_params_dtype=*/false);
  validate(options, layout.world, Command::parity);
  return options;
}

TEST_P(ParityInLayout, AllCasesAreWithinTheirBounds) {
  const Layout layout = GetParam();
  for (const char* name : kCases) {
    const ParityCase parity_case =
        ParityCase::open(std::string(TEST_DATA_DIR "/megatron_core/") + name + ".json");
    const Options options = options_for(parity_case, layout);
    run_thread_world(layout.world, [&](RankContext& rank) {
      const Comparison comparison = run_parity(parity_case, options, rank);
      if (rank.rank == 0) {
        EXPECT_TRUE(comparison.holds(1.0)) << name << '\n' << comparison.table(1.0);
      }
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, ParityInLayout, testing::ValuesIn(kLayouts),
                         [](const auto& info) { return info.param.name; });

// Sharded gradients and parameters are gathered for the comparison.
TEST(ParityWithShardedState, HoldsWithEveryStrategy) {
  for (const char* name : {"gpt2_deep", "gpt2_deep_per_token", "llama_deep"}) {
    const ParityCase parity_case =
        ParityCase::open(std::string(TEST_DATA_DIR "/megatron_core/") + name + ".json");
    for (const auto strategy :
         {DataParallelShardingStrategy::optim, DataParallelShardingStrategy::optim_grads,
          DataParallelShardingStrategy::optim_grads_params}) {
      Options options = options_for(parity_case, {"pp2_dp2", 4, 1, 2, false});
      options.ddp.use_megatron_fsdp = true;
      options.ddp.data_parallel_sharding_strategy = strategy;
      options.ddp.overlap_grad_reduce = options.ddp.overlap_param_gather = true;
      options.ddp.bucket_size = 2000;
      validate(options, 4, Command::parity);
      run_thread_world(4, [&](RankContext& rank) {
        const Comparison comparison = run_parity(parity_case, options, rank);
        if (rank.rank == 0) {
          EXPECT_TRUE(comparison.holds(1.0)) << name << '\n' << comparison.table(1.0);
        }
      });
    }
  }
}

// The last stage holds one of four layers, the MTP layer and a copy of the embedding.
TEST(ParityInFourStages, HoldsForMultiTokenPrediction) {
  const ParityCase parity_case = ParityCase::open(TEST_DATA_DIR "/megatron_core/mtp1_deep.json");
  const Options options = options_for(parity_case, {"pp4", 4, 1, 4, false});
  run_thread_world(4, [&](RankContext& rank) {
    const Comparison comparison = run_parity(parity_case, options, rank);
    if (rank.rank != 0) return;
    EXPECT_TRUE(comparison.holds(1.0)) << comparison.table(1.0);
    EXPECT_TRUE(comparison.contains(ParityKind::mtp_loss, "mtp_1_loss[2]"));
  });
}

// Cases whose options call for wider bounds than the standard ones, by kind of number.
struct WiderBounds {
  const char* name;
  const char* reason;               // a part of the printed reason
  std::set<ParityKind> kinds = {};  // that may exceed the standard bounds; empty: any
  const char* tensor = "";          // a part of the names that may exceed them
  friend void PrintTo(const WiderBounds& bounds, std::ostream* out) { *out << bounds.name; }
};

const WiderBounds kWiderBounds[] = {
    {"gpt2_bf16", "both programs round to bf16"},
    {"llama_bf16", "both programs round to bf16"},
    {"gpt2_xent_fusion_native",
     "rounds the gradient of the logits to bf16",
     {ParityKind::gradient, ParityKind::gradient_norm_of_difference, ParityKind::step_loss,
      ParityKind::step_grad_norm, ParityKind::weight_after3}},
    {"gpt2_adam_eps_default",
     "the gradient of the keys' bias is zero",
     {ParityKind::weight_after3},
     "linear_qkv.bias"}};

class ParityWithWiderBounds : public testing::TestWithParam<WiderBounds> {};

TEST_P(ParityWithWiderBounds, HoldsAndNeedsThem) {
  const WiderBounds& expected = GetParam();
  const ParityCase parity_case =
      ParityCase::open(std::string(TEST_DATA_DIR "/megatron_core/") + expected.name + ".json");
  const Options options = options_for(parity_case, kLayouts[0]);
  run_thread_world(1, [&](RankContext& rank) {
    const Comparison comparison = run_parity(parity_case, options, rank);
    const std::string table = comparison.table(1.0);
    EXPECT_TRUE(comparison.holds(1.0)) << table;
    EXPECT_THAT(table, testing::HasSubstr(expected.reason));
    const auto beyond = comparison.beyond_standard_bounds();
    EXPECT_FALSE(beyond.empty());
    for (const auto& [kind, name] : beyond) {
      EXPECT_TRUE(expected.kinds.empty() || expected.kinds.contains(kind)) << name;
      EXPECT_THAT(name, testing::HasSubstr(expected.tensor));
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Cases, ParityWithWiderBounds, testing::ValuesIn(kWiderBounds),
                         [](const auto& info) { return std::string(info.param.name); });

// The peer accepts and ignores these options. This program applies them, so its numbers differ with
// the option on.
TEST(ParityOfIgnoredOptions, HoldsWithoutThemAndNotWithThem) {
  const std::pair<const char*, bool& (*)(Options&)> cases[] = {
      {"gpt2_fp16_lm_cross_entropy",
       [](Options& options) -> bool& { return options.model.fp16_lm_cross_entropy; }},
      {"gpt2_post_ln_residual", [](Options& options) -> bool& {
         return options.model.transformer.apply_residual_connection_post_layernorm;
       }}};
  for (const auto& [name, option] : cases) {
    const ParityCase parity_case =
        ParityCase::open(std::string(TEST_DATA_DIR "/megatron_core/") + name + ".json");
    Options options;
    const std::vector<std::string> left_out =
        parity_case.configure(options, /*keep_params_dtype=*/false);
    ASSERT_EQ(left_out.size(), 1) << name;
    EXPECT_THAT(left_out[0], testing::StartsWith("compared without "));
    validate(options, 1, Command::parity);
    for (const bool on : {false, true}) {
      option(options) = on;
      run_thread_world(1, [&](RankContext& rank) {
        const Comparison comparison = run_parity(parity_case, options, rank);
        EXPECT_EQ(comparison.holds(1.0), !on) << name << '\n' << comparison.table(1.0);
      });
    }
  }
}

// In fp64 the differences are the rounding of the peer.
TEST(ParityInFp64, HoldsInFp32AndBf16Cases) {
  for (const char* name : {"gpt2", "gpt2_sgd", "llama", "llama_mrope", "mla", "gpt2_bf16"}) {
    const ParityCase parity_case =
        ParityCase::open(std::string(TEST_DATA_DIR "/megatron_core/") + name + ".json");
    Options options;
    options.model.transformer.params_dtype = at::kDouble;
    parity_case.configure(options, /*keep_params_dtype=*/true);
    EXPECT_EQ(options.model.transformer.params_dtype, at::kDouble);
    run_thread_world(1, [&](RankContext& rank) {
      const Comparison comparison = run_parity(parity_case, options, rank);
      EXPECT_TRUE(comparison.holds(1.0)) << name << '\n' << comparison.table(1.0);
    });
  }
}

}  // namespace
}  // namespace megatron
