// Frozen parameters: trained as on one rank, and refused where ranks that communicate freeze
// different ones.
#include <gmock/gmock.h>

#include "tests/training/sharded_run.h"

namespace megatron {
namespace {

using Strategy = DataParallelShardingStrategy;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(FrozenParameters, LeaveTheNumbersOfOneRankInEveryLayout) {
  const Freeze embeddings = [](const Parameter& parameter, int) {
    return parameter.is_embedding_or_output_parameter;
  };
  const RunNumbers want = train_in_one_rank(
      sharded_options({"one_rank", 1, 1, 1, false}, kPlain, at::kDouble), /*steps=*/2,
      /*microbatches=*/4, embeddings);
  EXPECT_FALSE(want.gradients.contains("embedding.word_embeddings.weight"));
  for (const ShardedLayout& layout :
       {ShardedLayout{"tp2_sp_dp2", 4, 2, 1, true}, {"pp2_dp2", 4, 1, 2, false}}) {
    for (const Sharding& sharding :
         {kPlain, Sharding{"optim", Strategy::optim, true},
          Sharding{"optim_grads_params", Strategy::optim_grads_params, true},
          Sharding{"torch_fsdp2", Strategy::optim_grads_params, true, false, false, true}}) {
      const Options options = sharded_options(layout, sharding, at::kDouble);
      run_thread_world(layout.world, [&](RankContext& rank) {
        SCOPED_TRACE(fmt::format("{} {}", layout.name, sharding.name));
        TrainingRun run(options, rank, embeddings);
        const RunNumbers got = run.train(/*steps=*/2, /*microbatches=*/4);
        expect_near(run, got, want, 1e-10);
      });
    }
  }
}

struct RefusedFreeze {
  const char* name;
  ShardedLayout layout;
  bool tied;
  int64_t mtp_layers;
  const char* parameter;  // frozen on ranks from first_rank to last_rank
  int first_rank, last_rank;
  const char* message;
};

class RefusedFrozenParameters : public testing::TestWithParam<RefusedFreeze> {};

// On every rank, with the same error, before any step.
TEST_P(RefusedFrozenParameters, AreNamed) {
  const RefusedFreeze& refused = GetParam();
  Options options = sharded_options(refused.layout, kPlain, at::kFloat);
  options.model.share_embeddings_and_output_weights = refused.tied;
  options.model.transformer.mtp.mtp_num_layers = refused.mtp_layers;
  run_thread_world(refused.layout.world, [&](RankContext& rank) {
    const Freeze freeze = [&](const Parameter& parameter, int number) {
      return parameter.name == refused.parameter && number >= refused.first_rank &&
             number <= refused.last_rank;
    };
    EXPECT_THAT([&] { TrainingRun(options, rank, freeze); },
                ThrowsMessage<Error>(HasSubstr(refused.message)));
  });
}

constexpr ShardedLayout kTwoStages = {"pp2", 2, 1, 2, false};
constexpr const char* kWordEmbeddings = "embedding.word_embeddings.weight";

INSTANTIATE_TEST_SUITE_P(
    Ranks, RefusedFrozenParameters,
    testing::Values(
        // The name covers the first stage only.
        RefusedFreeze{"tied_first_stage", kTwoStages, true, 0, kWordEmbeddings, 0, 1,
                      "Expected all copies of a shared embedding to be frozen or none, but "
                      "embedding.word_embeddings.weight is frozen on rank 0 and "
                      "output_layer.weight is trained on rank 1; freezing both works"},
        RefusedFreeze{"tied_last_stage", kTwoStages, true, 0, "output_layer.weight", 0, 1,
                      "embedding.word_embeddings.weight is trained on rank 0 and "
                      "output_layer.weight is frozen on rank 1; freezing both works"},
        // The MTP layers have a copy of the embedding even where the output layer is untied.
        RefusedFreeze{"mtp_last_stage", kTwoStages, false, 1, kWordEmbeddings, 1, 1,
                      "embedding.word_embeddings.weight is trained on rank 0 and "
                      "embedding.word_embeddings.weight is frozen on rank 1"},
        RefusedFreeze{"mtp_positions", kTwoStages, false, 1, "embedding.position_embeddings.weight",
                      0, 0,
                      "embedding.position_embeddings.weight is frozen on rank 0 and "
                      "embedding.position_embeddings.weight is trained on rank 1"},
        RefusedFreeze{"tensor_parallel",
                      {"tp2", 2, 2, 1, false},
                      true,
                      0,
                      "decoder.final_layernorm.weight",
                      1,
                      1,
                      "Expected the same frozen parameters on all ranks of group tp, but "
                      "decoder.final_layernorm.weight is trained on rank 0 and "
                      "decoder.final_layernorm.weight is frozen on rank 1; freeze it on all of "
                      "them or on none"},
        RefusedFreeze{"data_parallel",
                      {"dp2", 2, 1, 1, false},
                      true,
                      0,
                      "decoder.final_layernorm.weight",
                      0,
                      0,
                      "Expected the same frozen parameters on all ranks of group dp_cp, but "
                      "decoder.final_layernorm.weight is frozen on rank 0"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace megatron
