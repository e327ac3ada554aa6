// megatron-core's cases with experts, in one rank and in layouts with expert parallelism.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/config/validate/validate.h"
#include "megatron/parity/parity_run.h"

#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

constexpr const char* kMoeCases[] = {
    "moe_capacity_pad", "moe_capacity_probs",     "moe_deep",
    "moe_deep_dsv3",    "moe_deepseek_v3",        "moe_global_aux_loss",
    "moe_layer_freq",   "moe_no_balancing",       "moe_seq_aux_loss",
    "moe_sigmoid",      "moe_shared_expert",      "moe_shared_expert_gate",
    "moe_sinkhorn",     "moe_top1_pre_softmax",   "moe_top2_alltoall",
    "moe_top2_z_loss",  "moe_top2_microbatches4", "mtp1_moe"};

struct MoeParityLayout {
  const char* name;
  int world;
  int64_t tp, pp, cp, ep, etp;
  MoeTokenDispatcherType dispatcher;
  bool zero1 = false;
};

using enum MoeTokenDispatcherType;

constexpr MoeParityLayout kMoeLayouts[] = {
    {"one_rank", 1, 1, 1, 1, 1, 1, alltoall},
    {"one_rank_allgather", 1, 1, 1, 1, 1, 1, allgather},
    {"ep2", 2, 1, 1, 1, 2, 1, alltoall},
    {"ep2_allgather", 2, 1, 1, 1, 2, 1, allgather},
    {"ep2_zero1", 2, 1, 1, 1, 2, 1, alltoall, true},
    {"tp2_etp2", 2, 2, 1, 1, 1, 2, alltoall},
    {"tp2_ep2", 2, 2, 1, 1, 2, 1, alltoall},
    {"etp2", 2, 1, 1, 1, 1, 2, allgather},
    {"cp2_ep2", 2, 1, 1, 2, 2, 1, alltoall},
    {"pp2_dp2_ep2", 4, 1, 2, 1, 2, 1, alltoall},
    {"tp2_dp2_ep2_etp2", 4, 2, 1, 1, 2, 2, allgather},
    {"tp2_dp2_ep4_zero1", 4, 2, 1, 1, 4, 1, alltoall, true},
};

class MoeParity : public testing::TestWithParam<MoeParityLayout> {};

TEST_P(MoeParity, AllCasesAreWithinTheirBounds) {
  const MoeParityLayout layout = GetParam();
  for (const char* name : kMoeCases) {
    const ParityCase parity_case =
        ParityCase::open(std::string(TEST_DATA_DIR "/megatron_core/") + name + ".json");
    Options options;
    TransformerConfig& transformer = options.model.transformer;
    transformer.tensor_model_parallel_size = layout.tp;
    transformer.sequence_parallel = layout.tp > 1;
    transformer.pipeline_model_parallel_size = layout.pp;
    transformer.context_parallel_size = layout.cp;
    transformer.expert_model_parallel_size = layout.ep;
    transformer.moe.expert_tensor_parallel_size = layout.etp;
    options.ddp.use_distributed_optimizer = layout.zero1;
    parity_case.configure(options, /*keep_params_dtype=*/false);
    transformer.moe.moe_token_dispatcher_type = layout.dispatcher;
    validate(options, layout.world, Command::parity);
    run_thread_world(layout.world, [&](RankContext& rank) {
      const Comparison comparison = run_parity(parity_case, options, rank);
      if (rank.rank != 0) return;
      EXPECT_TRUE(comparison.holds(1.0)) << name << '\n' << comparison.table(1.0);
      EXPECT_TRUE(comparison.contains(ParityKind::router_probs) &&
                  comparison.contains(ParityKind::router_map))
          << name;
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, MoeParity, testing::ValuesIn(kMoeLayouts),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace megatron
