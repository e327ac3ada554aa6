// Whatever the data-parallel ranks share out, the numbers are those of one rank.
#include "tests/training/sharded_run.h"

namespace megatron {
namespace {

using Strategy = DataParallelShardingStrategy;

constexpr ShardedLayout kOneRank = {"one_rank", 1, 1, 1, false};
constexpr ShardedLayout kShardedLayouts[] = {{"dp2", 2, 1, 1, false},
                                             {"dp4", 4, 1, 1, false},
                                             {"tp2_sp_dp2", 4, 2, 1, true},
                                             {"pp2_dp2", 4, 1, 2, false}};

constexpr Sharing kSharings[] = {
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
};

constexpr int64_t kSteps = 4, kMicrobatches = 8;

class ShardedTraining : public testing::TestWithParam<ShardedLayout> {};

TEST_P(ShardedTraining, HasTheNumbersOfOneRank) {
  const ShardedLayout layout = GetParam();
  for (const auto& [dtype, tolerance] :
       {std::pair{at::kFloat, 1e-5}, std::pair{at::kDouble, 1e-10}}) {
    const RunNumbers want =
        train_in_one_rank(sharded_options(kOneRank, kPlain, dtype), kSteps, kMicrobatches);
    for (const Sharing& sharing : kSharings) {
      SCOPED_TRACE(sharing.name);
      const Options options = sharded_options(layout, sharing, dtype);
      run_thread_world(layout.world, [&](RankContext& rank) {
        SCOPED_TRACE(sharing.name);
        TrainingRun run(options, rank);
        const RunNumbers got = run.train(kSteps, kMicrobatches);
        expect_near(run, got, want, tolerance);
      });
    }
  }
}

// With one micro-batch a rank and no clipping nothing is added in another order.
TEST_P(ShardedTraining, HasTheBitsOfPlainDataParallelism) {
  const ShardedLayout layout = GetParam();
  const int64_t dp = layout.world / (layout.tp * layout.pp);
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const auto train = [&](const Sharing& sharing) {
      Options options = sharded_options(layout, sharing, dtype);
      options.optimizer.clip_grad = 0;
      std::vector<RunNumbers> by_rank(layout.world);
      run_thread_world(layout.world, [&](RankContext& rank) {
        by_rank[rank.rank] = TrainingRun(options, rank).train(kSteps, dp);
      });
      return by_rank;
    };
    const std::vector<RunNumbers> want = train(kPlain);
    for (const Sharing& sharing : kSharings) {
      const std::vector<RunNumbers> got = train(sharing);
      for (int rank = 0; rank < layout.world; ++rank) {
        SCOPED_TRACE(fmt::format("{} {} rank {}", sharing.name, c10::toString(dtype), rank));
        expect_same_bits(got[rank], want[rank]);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, ShardedTraining, testing::ValuesIn(kShardedLayouts),
                         [](const auto& info) { return info.param.name; });

TEST(ShardedTrainingWithMasks, PerTokenLossIsThatOfOneRank) {
  const auto per_token = [](Options options) {
    options.model.transformer.calculate_per_token_loss = true;
    return options;
  };
  const RunNumbers want = train_in_one_rank(
      per_token(sharded_options(kOneRank, kPlain, at::kDouble)), kSteps, kMicrobatches);
  const ShardedLayout layout = kShardedLayouts[3];
  for (const Sharing& sharing : kSharings) {
    const Options options = per_token(sharded_options(layout, sharing, at::kDouble));
    run_thread_world(layout.world, [&](RankContext& rank) {
      SCOPED_TRACE(sharing.name);
      TrainingRun run(options, rank);
      const RunNumbers got = run.train(kSteps, kMicrobatches);
      expect_near(run, got, want, 1e-10);
    });
  }
}

// Prediction layers read the embedding once more, and a repeated one has several passes.
TEST(ShardedTrainingWithPrediction, HasTheNumbersOfOneRank) {
  for (const int64_t pp : {1, 2}) {
    const auto predicting = [](Options options) {
      options.model.transformer.mtp.mtp_num_layers = 2;
      options.model.transformer.mtp.mtp_use_repeated_layer = true;
      return options;
    };
    const RunNumbers want = train_in_one_rank(
        predicting(sharded_options(kOneRank, kPlain, at::kDouble)), kSteps, kMicrobatches);
    const ShardedLayout layout = {"dp2", static_cast<int>(2 * pp), 1, pp, false};
    for (const Sharing& sharing : kSharings) {
      const Options options = predicting(sharded_options(layout, sharing, at::kDouble));
      run_thread_world(layout.world, [&](RankContext& rank) {
        SCOPED_TRACE(sharing.name);
        TrainingRun run(options, rank);
        const RunNumbers got = run.train(kSteps, kMicrobatches);
        expect_near(run, got, want, 1e-10);
      });
    }
  }
}

// What the output layer adds at the end of a step is in the sums, with a weight of its own and with
// a copy of the embedding, deferred for all micro-batches and for some.
TEST(ShardedTrainingWithDeferral, HasTheNumbersOfOneRank) {
  for (const auto& [tied, limit] : {std::pair{true, int64_t{0}}, {true, 1}, {false, 0}}) {
    const auto with_ties = [&](Options options) {
      options.model.share_embeddings_and_output_weights = tied;
      return options;
    };
    const RunNumbers want = train_in_one_rank(
        with_ties(sharded_options(kOneRank, kPlain, at::kDouble)), kSteps, kMicrobatches);
    const ShardedLayout layout = {"pp2_dp2", 4, 1, 2, false};
    for (const Sharing& sharing : kSharings) {
      Options options = with_ties(sharded_options(layout, sharing, at::kDouble));
      options.model.transformer.defer_embedding_wgrad_compute = true;
      options.model.transformer.wgrad_deferral_limit = limit;
      validate(options, layout.world, Command::bench);
      run_thread_world(layout.world, [&](RankContext& rank) {
        SCOPED_TRACE(fmt::format("{} tied {} limit {}", sharing.name, tied, limit));
        TrainingRun run(options, rank);
        const RunNumbers got = run.train(kSteps, kMicrobatches);
        expect_near(run, got, want, 1e-10);
      });
    }
  }
}

}  // namespace
}  // namespace megatron
