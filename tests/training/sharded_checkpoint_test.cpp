// A checkpoint of any sharding strategy and layout loads into any other.
#include <filesystem>
#include <unistd.h>

#include "megatron/training/training_state.h"

#include "tests/temporary_folder.h"
#include "tests/training/sharded_run.h"

namespace megatron {
namespace {

using Strategy = DataParallelShardingStrategy;

struct Setting {
  ShardedLayout layout;
  Sharding sharding;
};

constexpr Setting kSettings[] = {
    {{"dp2", 2, 1, 1, false}, {"plain", Strategy::no_shard}},
    {{"dp4", 4, 1, 1, false}, {"optim", Strategy::optim, true}},
    {{"tp2_dp2", 4, 2, 1, false}, {"optim_grads_params", Strategy::optim_grads_params, true}},
    {{"pp2_dp2", 4, 1, 2, false}, {"optim_grads", Strategy::optim_grads}},
    {{"dp3", 3, 1, 1, false}, {"optim_grads_params", Strategy::optim_grads_params}},
    {{"tp2_dp2", 4, 2, 1, false},
     {"torch_fsdp2", Strategy::optim_grads_params, true, false, false, true}},
    {{"dp3", 3, 1, 1, false},
     {"torch_fsdp2", Strategy::optim_grads_params, false, false, false, true}},
};
constexpr int64_t kCheckpointMicrobatches = 12;

Options setting_options(const Setting& setting, at::ScalarType dtype) {
  return sharded_options(setting.layout, setting.sharding, dtype);
}

// Trains two steps, saves to `folder`, trains two more, and returns the numbers of the last two.
RunNumbers train_and_save(TrainingRun& run, const std::string& folder) {
  run.train(2, kCheckpointMicrobatches);
  run.options.checkpoint.save = folder;
  save_training_state(run.options, run.rank, {run.model}, run.step->optimizer(),
                      {.iteration = run.done, .consumed_samples = 0}, /*tokenizer=*/"");
  return run.train(2, kCheckpointMicrobatches);
}

// Loads the run and returns the notes about it.
std::string load(TrainingRun& run, const std::string& folder) {
  std::string notes;
  run.options.checkpoint.load = folder;
  const TrainingProgress progress =
      load_training_state(run.options, run.rank, {run.model}, run.step->optimizer(), "",
                          [&](const std::string& note) { notes += note; });
  run.done = progress.iteration;
  return notes;
}

TEST(ShardedCheckpoint, LoadsIntoEveryOtherSetting) {
  const TemporaryFolder folder;
  const Options one_rank = sharded_options({"one_rank", 1, 1, 1, false}, kPlain, at::kDouble);
  const RunNumbers want = [&] {
    RunNumbers numbers;
    run_thread_world(1, [&](RankContext& rank) {
      TrainingRun run(one_rank, rank);
      run.train(2, kCheckpointMicrobatches);
      numbers = run.train(2, kCheckpointMicrobatches);
    });
    return numbers;
  }();
  for (const Setting& from : kSettings) {
    const std::string path = folder / (std::string(from.layout.name) + from.sharding.name);
    run_thread_world(from.layout.world, [&](RankContext& rank) {
      TrainingRun run(setting_options(from, at::kDouble), rank);
      train_and_save(run, path);
    });
    for (const Setting& to : kSettings) {
      run_thread_world(to.layout.world, [&](RankContext& rank) {
        SCOPED_TRACE(fmt::format("{} {} -> {} {}", from.layout.name, from.sharding.name,
                                 to.layout.name, to.sharding.name));
        TrainingRun run(setting_options(to, at::kDouble), rank);
        load(run, path);
        const RunNumbers got = run.train(2, kCheckpointMicrobatches);
        expect_near(run, got, want, 1e-10);
      });
    }
  }
}

TEST(ShardedCheckpoint, ResumesBitForBitInTheSameSetting) {
  const TemporaryFolder folder;
  for (const Setting& setting : kSettings) {
    const std::string path = folder / (std::string(setting.layout.name) + setting.sharding.name);
    run_thread_world(setting.layout.world, [&](RankContext& rank) {
      SCOPED_TRACE(fmt::format("{} {}", setting.layout.name, setting.sharding.name));
      const Options options = setting_options(setting, at::kBFloat16);
      TrainingRun uninterrupted(options, rank), resumed(options, rank);
      const RunNumbers want = train_and_save(uninterrupted, path);
      EXPECT_EQ(load(resumed, path), "");
      const RunNumbers got = resumed.train(2, kCheckpointMicrobatches);
      expect_same_bits(got, want);
      EXPECT_EQ(got.grad_norms, want.grad_norms);
    });
  }
}

}  // namespace
}  // namespace megatron
