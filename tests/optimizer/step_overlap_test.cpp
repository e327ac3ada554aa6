// overlap_param_gather_with_optimizer_step: a model chunk is gathered while the optimizer updates
// the next one.
#include <gtest/gtest.h>

#include "megatron/optimizer/optimizer.h"

#include "tests/data_parallel/scripted_model.h"

namespace megatron {
namespace {

// For each gather of a step in order: whether the last chunk had been updated before it started.
std::vector<bool> gathers_after_the_last_update(bool overlap_with_step, bool overlap_gather) {
  Script script;
  const std::array<ScriptedModel, 2> chunks = {ScriptedModel(script), ScriptedModel(script)};
  DistributedDataParallelConfig config = overlapped(DataParallelShardingStrategy::optim);
  config.overlap_param_gather = overlap_gather;
  std::vector<std::unique_ptr<DistributedDataParallel>> data_parallel;
  std::vector<DistributedDataParallel*> pointers;
  for (size_t chunk = 0; chunk < chunks.size(); ++chunk) {
    data_parallel.push_back(std::make_unique<DistributedDataParallel>(
        chunks[chunk].module_groups(), config, commanded_group(script),
        disables_bucketing(chunk, chunks.size(), overlap_with_step)));
    pointers.push_back(data_parallel.back().get());
    for (const ParameterSlice& slice : pointers.back()->owned_slices()) slice.main_grad.fill_(1);
  }
  OptimizerConfig optimizer_config;
  optimizer_config.overlap_param_gather_with_optimizer_step = overlap_with_step;
  Optimizer optimizer(optimizer_config, pointers, ProcessGroupCollection::single_rank());
  const at::Tensor last = pointers[1]->owned_slices().back().data;
  const at::Tensor before = last.detach().clone();
  std::vector<bool> updated;
  script.on_event = [&](const std::string& event) {
    if (event.starts_with("start all_gather")) updated.push_back(!at::equal(last, before));
  };
  optimizer.step(1e-2);
  script.on_event = nullptr;
  return updated;
}

// With overlap each chunk is one bucket; the first one is gathered before the second is updated.
TEST(StepOverlap, GathersTheFirstChunkWhileTheSecondIsUpdated) {
  EXPECT_EQ(gathers_after_the_last_update(/*overlap_with_step=*/true, /*overlap_gather=*/true),
            (std::vector<bool>{false, true}));
}

// The first chunk has four buckets.
TEST(StepOverlap, WithoutItGathersFollowTheLastUpdate) {
  for (const bool overlap_gather : {false, true}) {
    EXPECT_EQ(gathers_after_the_last_update(/*overlap_with_step=*/false, overlap_gather),
              std::vector<bool>(kLayers + 1, true));
  }
}

}  // namespace
}  // namespace megatron
