// Allocated training memory against the formula.
#include "megatron/planner/training_memory.h"

#include "tests/training/sharded_run.h"

namespace megatron {
namespace {

using Strategy = DataParallelShardingStrategy;

constexpr Sharding kShardings[] = {
    {"plain", Strategy::no_shard},
    {"optim", Strategy::optim, true},
    {"optim_grads", Strategy::optim_grads, true},
    {"optim_grads_params", Strategy::optim_grads_params, true},
    {"torch_fsdp2", Strategy::optim_grads_params, true, false, false, true}};

void expect_close(int64_t held, int64_t planned, const char* what) {
  EXPECT_NEAR(double(held), double(planned), 0.05 * double(planned)) << what;
}

TEST(TrainingMemory, MatchesTheFormula) {
  for (const int world : {2, 4}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      for (const Sharding& sharding : kShardings) {
        Options options = sharded_options({"dp", world, 1, 1, false}, sharding, dtype);
        options.ddp.bucket_size = 100'000;
        options.model.transformer.hidden_size = 96;
        options.model.transformer.ffn_hidden_size = 300;
        run_thread_world(world, [&](RankContext& rank) {
          SCOPED_TRACE(fmt::format("{} {} of {}", sharding.name, c10::toString(dtype), world));
          TrainingRun run(options, rank);
          int64_t numel = 0;
          for (const ParameterPtr& parameter : run.step->parameters())
            numel += parameter->data.numel();
          for (int i = 0; i < 2; ++i) {
            run.step->run(local_microbatches(*run.model, i, world),
                          BatchSharing::whole_microbatches, 1e-3);
            const TrainingMemory held =
                held_training_memory(run.step->parameters(), run.step->optimizer());
            const TrainingMemory planned = planned_training_memory(
                numel, dtype, options.ddp, options.optimizer.optimizer, world);
            expect_close(held.parameters, planned.parameters, "parameters");
            expect_close(held.gradients, planned.gradients, "gradients");
            expect_close(held.optimizer_state, planned.optimizer_state, "optimizer state");
            expect_close(held.total(), planned.total(), "all");
          }
        });
      }
    }
  }
}

// 18 bytes per parameter in bf16 with Adam, 12 of them optimizer state.
TEST(TrainingMemory, FormulaByHand) {
  DistributedDataParallelConfig ddp{.grad_reduce_in_fp32 = true};
  const auto planned = [&](at::ScalarType dtype, OptimizerType optimizer) {
    return planned_training_memory(1000, dtype, ddp, optimizer, 4);
  };
  TrainingMemory memory = planned(at::kBFloat16, OptimizerType::adam);
  EXPECT_EQ(memory.parameters, 2000);
  EXPECT_EQ(memory.gradients, 4000);
  EXPECT_EQ(memory.optimizer_state, 12000);
  EXPECT_EQ(planned(at::kFloat, OptimizerType::sgd).optimizer_state, 4000);
  ddp.use_distributed_optimizer = true;
  memory = planned(at::kBFloat16, OptimizerType::adam);
  EXPECT_EQ(memory.total(), 2000 + 4000 + 3000);
  ddp.use_distributed_optimizer = false;
  ddp.use_megatron_fsdp = true;
  ddp.data_parallel_sharding_strategy = Strategy::optim_grads;
  EXPECT_EQ(planned(at::kBFloat16, OptimizerType::adam).total(), 2000 + 1000 + 3000);
  ddp.data_parallel_sharding_strategy = Strategy::optim_grads_params;
  EXPECT_EQ(planned(at::kBFloat16, OptimizerType::adam).total(), 500 + 1000 + 3000);
  ddp.grad_reduce_in_fp32 = false;
  EXPECT_EQ(planned(at::kBFloat16, OptimizerType::adam).gradients, 500);
  ddp = {.grad_reduce_in_fp32 = true, .use_torch_fsdp2 = true};
  EXPECT_EQ(planned(at::kBFloat16, OptimizerType::adam).total(), 500 + 1000 + 3000);
}

}  // namespace
}  // namespace megatron
