// The deep cases of megatron-core with different splits of the layers into pipeline stages.
#include <functional>

#include <gtest/gtest.h>

#include "megatron/config/validate/validate.h"
#include "megatron/parity/parity_run.h"

#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

struct DeepLayout {
  const char* name;
  int world;
  std::function<void(TransformerConfig&)> apply;
  const char* layout_with_mtp = "";  // the layout string for a model with an MTP layer
  friend void PrintTo(const DeepLayout& layout, std::ostream* out) { *out << layout.name; }
};

void set_ranks(TransformerConfig& config, int64_t stages) {
  config.pipeline_model_parallel_size = stages;
}

// For cases with four layers.
const DeepLayout kDeepLayouts[] = {
    {"pp4", 4, [](TransformerConfig& c) { set_ranks(c, 4); }},
    {"pp2_vp2", 2,
     [](TransformerConfig& c) {
       set_ranks(c, 2);
       c.pipeline.virtual_pipeline_model_parallel_size = 2;
     }},
    {"tp2_sp_pp2_vp2", 4,
     [](TransformerConfig& c) {
       set_ranks(c, 2);
       c.pipeline.virtual_pipeline_model_parallel_size = 2;
       c.tensor_model_parallel_size = 2;
       c.sequence_parallel = true;
     }},
    {"pp2_vp2_dp2", 4,
     [](TransformerConfig& c) {
       set_ranks(c, 2);
       c.pipeline.virtual_pipeline_model_parallel_size = 2;
     }},
    {"pp2_uneven", 2,
     [](TransformerConfig& c) {
       set_ranks(c, 2);
       c.pipeline.num_layers_in_last_pipeline_stage = 1;
     }},
    {"pp3_counting_embedding_and_loss", 3,
     [](TransformerConfig& c) {
       set_ranks(c, 3);
       c.pipeline.account_for_embedding_in_pipeline_split = true;
       c.pipeline.account_for_loss_in_pipeline_split = true;
     }},
    {"pp4_layout", 4,
     [](TransformerConfig& c) {
       set_ranks(c, 4);
       c.pipeline.pipeline_model_parallel_layout = "E|t*3|t|L";
     },
     "Et|ttt|m|L"},
    {"pp2_layout_of_four_chunks", 2,
     [](TransformerConfig& c) {
       set_ranks(c, 2);
       c.pipeline.pipeline_model_parallel_layout = "Et||t|t|t|||L";
     },
     "E|t|t||tt|,||mL"},
};

class DeepParity : public testing::TestWithParam<DeepLayout> {};

TEST_P(DeepParity, HoldsWithinTheBounds) {
  const DeepLayout& layout = GetParam();
  for (const char* name : {"gpt2_deep", "gpt2_deep_per_token", "llama_deep", "mtp1_deep"}) {
    const ParityCase parity_case =
        ParityCase::open(std::string(TEST_DATA_DIR "/megatron_core/") + name + ".json");
    Options options;
    layout.apply(options.model.transformer);
    parity_case.configure(options, /*keep_params_dtype=*/false);
    PipelineConfig& pipeline = options.model.transformer.pipeline;
    if (options.model.transformer.mtp.mtp_num_layers > 0 &&
        !pipeline.pipeline_model_parallel_layout.empty())
      pipeline.pipeline_model_parallel_layout = layout.layout_with_mtp;
    validate(options, layout.world, Command::parity);
    run_thread_world(layout.world, [&](RankContext& rank) {
      const Comparison comparison = run_parity(parity_case, options, rank);
      if (rank.rank == 0) {
        EXPECT_TRUE(comparison.holds(1.0)) << name << '\n' << comparison.table(1.0);
      }
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, DeepParity, testing::ValuesIn(kDeepLayouts),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace megatron
