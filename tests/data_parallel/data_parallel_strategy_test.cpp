// What the sharding strategies require of a model, and what they leave behind.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "tests/data_parallel/scripted_model.h"

namespace megatron {
namespace {

TEST(DataParallelStrategy, RefusesToShardParametersWithoutAModule) {
  for (const auto strategy :
       {DataParallelShardingStrategy::optim, DataParallelShardingStrategy::optim_grads,
        DataParallelShardingStrategy::optim_grads_params}) {
    Script script;
    const ScriptedModel model(script);
    std::vector<ModuleGroup> groups = model.module_groups();
    groups[1].module = nullptr;
    EXPECT_THAT(
        [&] { DistributedDataParallel(groups, overlapped(strategy), commanded_group(script)); },
        testing::ThrowsMessage<Error>(testing::AllOf(testing::HasSubstr("layers.1.weight has none"),
                                                     testing::HasSubstr("no_shard works"))));
    EXPECT_FALSE(DistributedDataParallel(groups, overlapped(DataParallelShardingStrategy::no_shard),
                                         commanded_group(script))
                     .is_sharded());
  }
}

TEST(DataParallelStrategy, RefusesAConfigurationThatCannotWork) {
  Script script;
  const ScriptedModel model(script);
  EXPECT_THAT(
      [&] {
        DistributedDataParallel(model.module_groups(),
                                {.use_megatron_fsdp = true, .use_torch_fsdp2 = true},
                                commanded_group(script));
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr(
          "Expected use_megatron_fsdp=true or use_torch_fsdp2=true, but got both")));
}

// They would run on freed memory.
TEST(DataParallelStrategy, LeavesNoHooksBehind) {
  Script script;
  const ScriptedModel model(script);
  {
    DistributedDataParallel ddp(model.module_groups(),
                                overlapped(DataParallelShardingStrategy::optim),
                                commanded_group(script));
    ddp.finish_update();
  }
  script.restart();
  model.layers[0]->forward(at::ones({2, 16}, at::kDouble));
  EXPECT_FALSE(script.happened("wait all_gather 0"));
  EXPECT_TRUE(script.happened("forward 0"));
}

}  // namespace
}  // namespace megatron
