// Interrupted saves: a crash at every stage, a failure on one rank, a full disk. The previous
// checkpoint stays intact, and the next save cleans up.
#include <csignal>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "megatron/base/error.h"
#include "megatron/checkpoint/checkpoint_directory.h"
#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/checkpoint/save_checkpoint.h"

#include "tests/checkpoint/checkpoint_fixture.h"

namespace megatron {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr SaveStage kStages[] = {SaveStage::plan, SaveStage::shard, SaveStage::index,
                                 SaveStage::publish, SaveStage::tracker};
constexpr int kCrashed = 77;

ShardedStateDict state_with(double value) {
  return {whole("w", at::full({5}, value))};
}

// Exit status of a child process that runs `main`.
int status_of_child(const std::function<int()>& main) {
  const pid_t child = fork();
  if (child == 0) _exit(main());
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  return WEXITSTATUS(status);
}

class InterruptedSaveTest : public CheckpointTest {
 protected:
  void save(int64_t iteration, double value) {
    save_checkpoint(root_, iteration, state_with(value), {}, world_of_one());
  }

  void crash_while_saving(int64_t iteration, SaveStage stage) {
    EXPECT_EQ(status_of_child([&] {
                SaveOptions options;
                options.on_stage = [&](SaveStage now) {
                  if (now == stage) _exit(kCrashed);
                };
                save_checkpoint(root_, iteration, state_with(99), {}, world_of_one(), options);
                return 0;
              }),
              kCrashed);
  }

  double stored_value() { return CheckpointReader::open(root_).load_tensor("w")[0].item<double>(); }
};

TEST_F(InterruptedSaveTest, CrashAtAnyStageKeepsThePreviousCheckpoint) {
  for (const auto stage : kStages) {
    save(1, 1);
    crash_while_saving(2, stage);
    EXPECT_EQ(latest_iteration(root_), 1);
    EXPECT_EQ(stored_value(), 1);
    save(3, 3);
    EXPECT_EQ(stored_value(), 3);
    // Only a complete directory may remain, from the crash before the tracker.
    std::vector<std::string> expected = {"iter_0000001"};
    if (stage == SaveStage::tracker) expected.push_back("iter_0000002");
    expected.insert(expected.end(), {"iter_0000003", kTrackerFile});
    EXPECT_EQ(names_in(root_), expected);
    for (const auto& name : names_in(root_)) std::filesystem::remove_all(root_ / name);
  }
}

TEST_F(InterruptedSaveTest, CrashWhileReplacingKeepsOneOfTheTwo) {
  for (const auto stage : kStages) {
    save(1, 1);
    crash_while_saving(1, stage);
    EXPECT_EQ(stored_value(), stage == SaveStage::tracker ? 99 : 1);
    save(1, 5);
    EXPECT_EQ(stored_value(), 5);
    EXPECT_THAT(names_in(root_), ElementsAre("iter_0000001", kTrackerFile));
  }
}

TEST_F(InterruptedSaveTest, CrashBetweenTheRenamesLosesNothing) {
  save(1, 1);
  const auto aside = root_ / "iter_0000001.replaced";
  std::filesystem::rename(root_ / "iter_0000001",
                          aside);  // the first rename of publish_directory()
  EXPECT_EQ(stored_value(), 1);
  save(2, 2);
  EXPECT_EQ(CheckpointReader::open(root_, 1).load_tensor("w")[0].item<double>(), 1);
  EXPECT_FALSE(std::filesystem::exists(aside));

  // After a crash behind the second rename, the new checkpoint is valid.
  std::filesystem::copy(root_ / "iter_0000001", aside, std::filesystem::copy_options::recursive);
  save(3, 3);
  EXPECT_FALSE(std::filesystem::exists(aside));
  EXPECT_TRUE(std::filesystem::exists(root_ / "iter_0000001"));
}

TEST_F(InterruptedSaveTest, CleanupKeepsOtherFiles) {
  std::filesystem::create_directories(root_ / "iter_0000001.tmp-0123abcd");
  std::filesystem::create_directories(root_ / "iter_0000001.tmp-mine");
  std::filesystem::create_directories(root_ / "notes.replaced");
  write_file(root_ / "notes.txt", "x");
  save(2, 2);
  EXPECT_THAT(names_in(root_), ElementsAre("iter_0000001.tmp-mine", "iter_0000002", kTrackerFile,
                                           "notes.replaced", "notes.txt"));
}

TEST_F(InterruptedSaveTest, FailureOfOneRankFailsAllAndNamesIt) {
  save_in_ranks(root_, 1, {state_with(1), {}, {}});
  for (const int culprit : {0, 2}) {
    std::vector<std::string> errors(3);
    run_ranks(3, [&](const ProcessGroup& world) {
      SaveOptions options;
      options.on_stage = [&](SaveStage stage) {
        if (stage == SaveStage::shard && world.rank() == culprit) fail("the disk is gone");
      };
      const auto state = part_of("w", at::full({2}, 9.0), {6}, 0, world.rank());
      errors[static_cast<size_t>(world.rank())] =
          error_of([&] { save_checkpoint(root_, 2, {state}, {}, world, options); });
    });
    const auto text = "rank " + std::to_string(culprit) + " failed: the disk is gone";
    EXPECT_THAT(errors, Each(HasSubstr(text)));
    EXPECT_THAT(names_in(root_), ElementsAre("iter_0000001", kTrackerFile));
    EXPECT_EQ(stored_value(), 1);
  }
}

TEST_F(InterruptedSaveTest, FailureBeforeTheTrackerLeavesNoTemporaries) {
  save(1, 1);
  for (const auto stage :
       {SaveStage::plan, SaveStage::shard, SaveStage::index, SaveStage::publish}) {
    SaveOptions options;
    options.on_stage = [&](SaveStage now) {
      if (now == stage) fail("stopped");
    };
    EXPECT_THAT(
        error_of([&] { save_checkpoint(root_, 2, state_with(2), {}, world_of_one(), options); }),
        HasSubstr("stopped"));
    EXPECT_THAT(names_in(root_), ElementsAre("iter_0000001", kTrackerFile));
  }
}

// Saves with a file-size limit of 64 KiB. Returns 0 on success.
int save_under_file_size_limit(const std::filesystem::path& root, const ShardedStateDict& state) {
  const rlimit limit{64 << 10, 64 << 10};
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
  try {
    save_checkpoint(root, 2, state, {}, world_of_one());
  } catch (const Error& error) {
    const std::string text = error.what();
    const bool named = text.find("rank 0 failed") != std::string::npos &&
                       text.find("File too large") != std::string::npos &&
                       text.find("shard-00000-of-00001.safetensors") != std::string::npos &&
                       text.find('\n') == std::string::npos;
    return named ? 0 : 2;
  }
  return 3;
}

TEST_F(InterruptedSaveTest, FullDiskIsAnErrorAndKeepsThePreviousCheckpoint) {
  save(1, 1);
  // Before the fork: a child process has no compute threads.
  const ShardedStateDict large = {whole("w", numbered({1 << 20}))};
  EXPECT_EQ(status_of_child([&] { return save_under_file_size_limit(root_, large); }), 0);
  EXPECT_EQ(status_of_child([&] {
              std::signal(SIGXFSZ, SIG_IGN);
              return save_under_file_size_limit(root_, large);
            }),
            0);
  EXPECT_THAT(names_in(root_), ElementsAre("iter_0000001", kTrackerFile));
  EXPECT_EQ(stored_value(), 1);
}

}  // namespace
}  // namespace megatron
