// Training with every sharding strategy gives the numbers of one rank.
#include "tests/training/sharded_run.h"

namespace megatron {
namespace {

using Strategy = DataParallelShardingStrategy;

constexpr ShardedLayout kOneRank = {"one_rank", 1, 1, 1, false};
constexpr ShardedLayout kShardedLayouts[] = {{"dp2", 2, 1, 1, false},
                                             {"dp4", 4, 1, 1, false},
                                             {"tp2_sp_dp2", 4, 2, 1, true},
                                             {"pp2_dp2", 4, 1, 2, false}};

constexpr Sharding kShardings[] = {
    {"no_shard_overlap", Strategy::no_shard, true},
    {"optim", Strategy::optim},
    {"optim_overlap", Strategy::optim, true},
    {"optim_overlap_with_step", Strategy::optim, true, true},
    {"optim_grads", Strategy::optim_grads},
    {"optim_grads_overlap", Strategy::optim_grads, true, true},
    {"optim_grads_params", Strategy::optim_grads_params},
    {"optim_grads_params_overlap", Strategy::optim_grads_params, true},
    {"no_shard_overlap_recompute", Strategy::no_shard, true, false, true},
    {"optim_overlap_recompute", Strategy::optim, true, false, true},
    {"optim_grads_params_recompute", Strategy::optim_grads_params, true, false, true},
    {"torch_fsdp2", Strategy::optim_grads_params, false, false, false, true},
    {"torch_fsdp2_overlap", Strategy::optim_grads_params, true, false, false, true},
    {"torch_fsdp2_recompute", Strategy::optim_grads_params, true, false, true, true},
    {"torch_fsdp2_no_reshard", Strategy::optim_grads_params, true, false, false, true, false},
};

constexpr int64_t kSteps = 4, kMicrobatches = 8;

class ShardedTraining : public testing::TestWithParam<ShardedLayout> {};

TEST_P(ShardedTraining, HasTheNumbersOfOneRank) {
  const ShardedLayout layout = GetParam();
  for (const auto& [dtype, tolerance] :
       {std::pair{at::kFloat, 1e-5}, std::pair{at::kDouble, 1e-10}}) {
    const RunNumbers want =
        train_in_one_rank(sharded_options(kOneRank, kPlain, dtype), kSteps, kMicrobatches);
    for (const Sharding& sharding : kShardings) {
      SCOPED_TRACE(sharding.name);
      const Options options = sharded_options(layout, sharding, dtype);
      run_thread_world(layout.world, [&](RankContext& rank) {
        SCOPED_TRACE(sharding.name);
        TrainingRun run(options, rank);
        const RunNumbers got = run.train(kSteps, kMicrobatches);
        expect_near(run, got, want, tolerance);
      });
    }
  }
}

// With one micro-batch on each rank and without clipping, all strategies sum in the same order.
TEST_P(ShardedTraining, HasTheBitsOfPlainDataParallelism) {
  const ShardedLayout layout = GetParam();
  const int64_t dp = layout.world / (layout.tp * layout.pp);
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const auto train = [&](const Sharding& sharding) {
      Options options = sharded_options(layout, sharding, dtype);
      options.optimizer.clip_grad = 0;
      std::vector<RunNumbers> by_rank(layout.world);
      run_thread_world(layout.world, [&](RankContext& rank) {
        by_rank[rank.rank] = TrainingRun(options, rank).train(kSteps, dp);
      });
      return by_rank;
    };
    const std::vector<RunNumbers> want = train(kPlain);
    for (const Sharding& sharding : kShardings) {
      const std::vector<RunNumbers> got = train(sharding);
      for (int rank = 0; rank < layout.world; ++rank) {
        SCOPED_TRACE(fmt::format("{} {} rank {}", sharding.name, c10::toString(dtype), rank));
        expect_same_bits(got[rank], want[rank]);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, ShardedTraining, testing::ValuesIn(kShardedLayouts),
                         [](const auto& info) { return info.param.name; });

TEST(ShardedTrainingWithPerTokenLoss, HasTheNumbersOfOneRank) {
  const auto per_token = [](Options options) {
    options.model.transformer.calculate_per_token_loss = true;
    return options;
  };
  const RunNumbers want = train_in_one_rank(
      per_token(sharded_options(kOneRank, kPlain, at::kDouble)), kSteps, kMicrobatches);
  const ShardedLayout layout = kShardedLayouts[3];
  for (const Sharding& sharding : kShardings) {
    const Options options = per_token(sharded_options(layout, sharding, at::kDouble));
    run_thread_world(layout.world, [&](RankContext& rank) {
      SCOPED_TRACE(sharding.name);
      TrainingRun run(options, rank);
      const RunNumbers got = run.train(kSteps, kMicrobatches);
      expect_near(run, got, want, 1e-10);
    });
  }
}

// MTP layers read the embedding again, and a repeated layer has several passes.
TEST(ShardedTrainingWithMtp, HasTheNumbersOfOneRank) {
  for (const int64_t pp : {1, 2}) {
    const auto with_mtp = [](Options options) {
      options.model.transformer.mtp.mtp_num_layers = 2;
      options.model.transformer.mtp.mtp_use_repeated_layer = true;
      return options;
    };
    const RunNumbers want = train_in_one_rank(
        with_mtp(sharded_options(kOneRank, kPlain, at::kDouble)), kSteps, kMicrobatches);
    const ShardedLayout layout = {"dp2", static_cast<int>(2 * pp), 1, pp, false};
    for (const Sharding& sharding : kShardings) {
      const Options options = with_mtp(sharded_options(layout, sharding, at::kDouble));
      run_thread_world(layout.world, [&](RankContext& rank) {
        SCOPED_TRACE(sharding.name);
        TrainingRun run(options, rank);
        const RunNumbers got = run.train(kSteps, kMicrobatches);
        expect_near(run, got, want, 1e-10);
      });
    }
  }
}

// Deferred weight gradients of the output layer enter the sums: tied and untied, deferred for all
// micro-batches and for some.
TEST(ShardedTrainingWithDeferredGradients, HasTheNumbersOfOneRank) {
  for (const auto& [tied, limit] : {std::pair{true, int64_t{0}}, {true, 1}, {false, 0}}) {
    const auto with_ties = [&](Options options) {
      options.model.share_embeddings_and_output_weights = tied;
      return options;
    };
    const RunNumbers want = train_in_one_rank(
        with_ties(sharded_options(kOneRank, kPlain, at::kDouble)), kSteps, kMicrobatches);
    const ShardedLayout layout = {"pp2_dp2", 4, 1, 2, false};
    for (const Sharding& sharding : kShardings) {
      Options options = with_ties(sharded_options(layout, sharding, at::kDouble));
      options.model.transformer.defer_embedding_wgrad_compute = true;
      options.model.transformer.wgrad_deferral_limit = limit;
      validate(options, layout.world, Command::bench);
      run_thread_world(layout.world, [&](RankContext& rank) {
        SCOPED_TRACE(fmt::format("{} tied {} limit {}", sharding.name, tied, limit));
        TrainingRun run(options, rank);
        const RunNumbers got = run.train(kSteps, kMicrobatches);
        expect_near(run, got, want, 1e-10);
      });
    }
  }
}

}  // namespace
}  // namespace megatron
