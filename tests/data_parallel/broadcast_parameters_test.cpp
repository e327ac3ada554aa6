// data_parallel_random_init: every rank gets the values of rank 0, under every strategy.
#include "megatron/data_parallel/broadcast_parameters.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "tests/data_parallel/row_model.h"

namespace megatron {
namespace {

using Strategy = DataParallelShardingStrategy;

TEST(BroadcastParameters, GivesEveryRankTheValuesOfTheFirst) {
  std::vector<DistributedDataParallelConfig> configs(3);
  configs[1].use_distributed_optimizer = true;
  configs[2].use_torch_fsdp2 = true;
  for (const Strategy strategy : {Strategy::optim_grads, Strategy::optim_grads_params})
    configs.push_back({.use_megatron_fsdp = true, .data_parallel_sharding_strategy = strategy});
  for (const DistributedDataParallelConfig& config : configs) {
    for (const bool broadcasts : {true, false}) {
      run_data_parallel(3, [&](const ProcessGroupPtr& dp) {
        SCOPED_TRACE(describe_sharing(config));
        const ShapedModel model(/*offset=*/100 * dp->rank());
        model.parameters()[1]->data.requires_grad_(false);  // frozen parameters are copies too
        if (broadcasts) broadcast_parameters(model.parameters(), *dp, *dp);
        std::vector<ModuleGroup> groups = model.groups;
        for (ModuleGroup& group : groups) group.parameters = trainable(group.parameters);
        DistributedDataParallel ddp(groups, config, dp);
        ddp.unshard_parameters();
        bool all_equal = true;
        for (const ParameterPtr& parameter : model.parameters()) {
          all_equal &=
              at::equal(parameter->data.view(-1), at::arange(parameter->data.numel(), at::kDouble));
        }
        // Without the broadcast the last rank's values differ, whatever is sharded.
        if (broadcasts || dp->rank() == 2) {
          EXPECT_EQ(all_equal, broadcasts);
        }
      });
    }
  }
}

TEST(BroadcastParameters, RefusesParametersThatAreSharded) {
  run_data_parallel(2, [&](const ProcessGroupPtr& dp) {
    const ShapedModel model;
    DistributedDataParallel ddp(model.groups, {.use_torch_fsdp2 = true}, dp);
    EXPECT_THAT([&] { broadcast_parameters(model.parameters(), *dp, *dp); },
                testing::ThrowsMessage<Error>(
                    testing::HasSubstr("not sharded yet to broadcast, but got units.0.p0")));
  });
}

}  // namespace
}  // namespace megatron
