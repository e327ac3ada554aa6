// use_torch_fsdp2 in every kind of layout: the numbers of one rank, twice the same bits.
#include "tests/training/sharded_run.h"

namespace megatron {
namespace {

using Strategy = DataParallelShardingStrategy;

constexpr ShardedLayout kTorchFsdp2Layouts[] = {
    {"dp2", 2, 1, 1, false},        {"dp3", 3, 1, 1, false},        {"dp4", 4, 1, 1, false},
    {"tp2_sp_dp2", 4, 2, 1, true},  {"tp2_dp2", 4, 2, 1, false},    {"pp2_dp2", 4, 1, 2, false},
    {"cp2_dp2", 4, 1, 1, false, 2}, {"tp2_pp2_dp2", 8, 2, 2, false}};

constexpr Sharding kTorchFsdp2Shardings[] = {
    {"plain", Strategy::optim_grads_params, false, false, false, true},
    {"overlap", Strategy::optim_grads_params, true, false, false, true},
    {"recompute", Strategy::optim_grads_params, true, false, true, true},
    {"no_reshard", Strategy::optim_grads_params, false, false, false, true, false},
    {"no_reshard_recompute", Strategy::optim_grads_params, true, false, true, true, false}};

class TorchFsdp2 : public testing::TestWithParam<ShardedLayout> {
 protected:
  // Two on each data-parallel rank.
  static int64_t microbatches() {
    const ShardedLayout& layout = GetParam();
    return 2 * layout.world / (layout.tp * layout.pp * layout.cp);
  }
  static Options options(const ShardedLayout& layout, const Sharding& sharding,
                         at::ScalarType dtype, bool tied) {
    Options options = sharded_options(layout, sharding, dtype);
    options.model.share_embeddings_and_output_weights = tied;
    validate(options, layout.world, Command::bench);
    return options;
  }
};

TEST_P(TorchFsdp2, HasTheNumbersOfOneRank) {
  for (const bool tied : {false, true}) {
    const RunNumbers want = train_in_one_rank(
        options({"one_rank", 1, 1, 1, false}, kPlain, at::kDouble, tied), 2, microbatches());
    for (const Sharding& sharding : kTorchFsdp2Shardings) {
      if (tied && sharding.full_recomputation) continue;
      const Options in_layout = options(GetParam(), sharding, at::kDouble, tied);
      run_thread_world(GetParam().world, [&](RankContext& rank) {
        SCOPED_TRACE(fmt::format("{} tied {}", sharding.name, tied));
        TrainingRun run(in_layout, rank);
        const RunNumbers got = run.train(2, microbatches());
        expect_near(run, got, want, 1e-10);
      });
    }
  }
}

TEST_P(TorchFsdp2, RunsTwiceWithTheSameBits) {
  for (const Sharding& sharding : {kTorchFsdp2Shardings[1], kTorchFsdp2Shardings[4]}) {
    const Options in_layout = options(GetParam(), sharding, at::kBFloat16, /*tied=*/true);
    std::vector<RunNumbers> first(GetParam().world);
    for (const bool again : {false, true}) {
      run_thread_world(GetParam().world, [&](RankContext& rank) {
        SCOPED_TRACE(sharding.name);
        RunNumbers numbers = TrainingRun(in_layout, rank).train(2, microbatches());
        if (again) {
          expect_same_bits(numbers, first[rank.rank]);
          EXPECT_EQ(numbers.grad_norms, first[rank.rank].grad_norms);
        } else {
          first[rank.rank] = std::move(numbers);
        }
      });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, TorchFsdp2, testing::ValuesIn(kTorchFsdp2Layouts),
                         [](const auto& info) { return info.param.name; });

// The local shard of a tensor-parallel parameter is divided; 53 rows of vocabulary are 27 a rank.
TEST(TorchFsdp2Shards, AreRowsOfTheLocalParameter) {
  for (const ShardedLayout& layout :
       {ShardedLayout{"dp3", 3, 1, 1, false}, {"tp2_dp2", 4, 2, 1, false}}) {
    const Options options = sharded_options(layout, kTorchFsdp2Shardings[0], at::kFloat);
    run_thread_world(layout.world, [&](RankContext& rank) {
      TrainingRun run(options, rank);
      const ProcessGroup& dp = *run.groups.dp_cp;
      std::map<std::string, std::vector<int64_t>> shapes;
      for (const OptimizerState& state : run.step->optimizer().states()) {
        shapes[state.slice.parameter->name] = state.slice.data.sizes().vec();
        EXPECT_EQ(state.exp_avg.sizes(), state.slice.data.sizes());
        EXPECT_EQ(state.slice.main_grad.sizes(), state.slice.data.sizes());
      }
      for (const ParameterPtr& parameter : run.step->parameters()) {
        std::vector<int64_t> shape = parameter->data.sizes().vec();
        const int64_t rows = shape[0], most = (rows + dp.size() - 1) / dp.size();
        shape[0] = std::clamp<int64_t>(rows - dp.rank() * most, 0, most);
        EXPECT_EQ(shapes.contains(parameter->name), shape[0] > 0) << parameter->name;
        if (shape[0] > 0) {
          EXPECT_EQ(shapes.at(parameter->name), shape) << parameter->name;
        }
      }
    });
  }
}

}  // namespace
}  // namespace megatron
