// megatron-core's fp16 training runs: losses, unscaled gradients and norms within the bounds of fp16,
// loss scales and skipped steps exactly, in every parallel layout.
#include <gmock/gmock.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "megatron/config/validate/validate.h"
#include "megatron/parity/parity_run.h"

#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

struct Fp16Layout {
  const char* name;
  int world;
  int64_t tp = 1, pp = 1, cp = 1;
  bool sequence_parallel = false;
  bool distributed_optimizer = false, fsdp = false;
};

constexpr Fp16Layout kFp16Layouts[] = {
    {"one_rank", 1},
    {"tp2", 2, 2},
    {"tp2_sp", 2, 2, 1, 1, true},
    {"pp2", 2, 1, 2},
    {"cp2", 2, 1, 1, 2},
    {"dp2_zero1", 2, 1, 1, 1, false, true},
    {"dp2_fsdp", 2, 1, 1, 1, false, false, true},
    {"tp2_sp_pp2_dp2_zero1", 8, 2, 2, 1, true, true},
};

ParityCase fp16_case(const std::string& name) {
  return ParityCase::open(TEST_DATA_DIR "/precision/fp16/" + name + ".json");
}

Options fp16_options(const ParityCase& parity_case, const Fp16Layout& layout) {
  Options options;
  TransformerConfig& t = options.model.transformer;
  t.tensor_model_parallel_size = layout.tp;
  t.pipeline_model_parallel_size = layout.pp;
  t.context_parallel_size = layout.cp;
  t.sequence_parallel = layout.sequence_parallel;
  parity_case.configure(options, /*keep_params_dtype=*/false);
  options.ddp.use_distributed_optimizer = layout.distributed_optimizer;
  if (layout.fsdp) {
    options.ddp.use_megatron_fsdp = true;
    options.ddp.data_parallel_sharding_strategy = DataParallelShardingStrategy::optim_grads_params;
  }
  validate(options, layout.world, Command::parity);
  return options;
}

class Fp16Parity : public testing::TestWithParam<Fp16Layout> {};

TEST_P(Fp16Parity, AllRunsAreWithinTheirBounds) {
  for (const char* name : {"gpt2_fp16", "gpt2_fp16_overflow", "llama_fp16", "llama_fp16_grows"}) {
    // A rank with a part of the tokens sums smaller gradients, which overflow later.
    const bool splits_tokens = GetParam().world > GetParam().tp * GetParam().pp;
    if (splits_tokens && std::string_view(name) == "gpt2_fp16_overflow") continue;
    const ParityCase parity_case = fp16_case(name);
    const Options options = fp16_options(parity_case, GetParam());
    EXPECT_TRUE(options.model.transformer.fp16);
    run_thread_world(GetParam().world, [&](RankContext& rank) {
      const Comparison comparison = run_parity(parity_case, options, rank);
      if (rank.rank != 0) return;
      EXPECT_TRUE(comparison.holds(1.0)) << name << '\n' << comparison.table(1.0);
      EXPECT_TRUE(comparison.contains(ParityKind::loss_scale, "loss_scale[2]")) << name;
      EXPECT_TRUE(comparison.contains(ParityKind::weight_after3)) << name;
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, Fp16Parity, testing::ValuesIn(kFp16Layouts),
                         [](const auto& info) { return info.param.name; });

TEST(Fp16Parity, AnotherScaleIsNoticed) {
  const ParityCase parity_case = fp16_case("llama_fp16_grows");
  Options options = fp16_options(parity_case, kFp16Layouts[0]);
  options.optimizer.loss_scale_window = 3;
  run_thread_world(1, [&](RankContext& rank) {
    const Comparison comparison = run_parity(parity_case, options, rank);
    const nlohmann::json failures = comparison.to_json(1.0)["failures"];
    ASSERT_FALSE(failures.empty());
    for (const nlohmann::json& failure : failures) EXPECT_EQ(failure["kind"], "loss_scale");
  });
}

}  // namespace
}  // namespace megatron
