// A rank of a multi-process run dies, hangs or was started with other options: the other ranks exit
// in time with an error that names the rank and the operation, and the last checkpoint is intact.
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <thread>

#include <gtest/gtest.h>

#include "megatron/checkpoint/checkpoint_directory.h"
#include "megatron/checkpoint/checkpoint_reader.h"

#include "tests/parallel/reserved_port.h"
#include "tests/program.h"
#include "tests/reporting/log_test_tools.h"

namespace megatron {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;

struct ProcessLayout {
  const char* name;
  std::vector<std::string> flags;
};

std::vector<std::string> endless_training(const ProcessLayout& layout, const std::string& save,
                                          int global_batch_size = 8) {
  std::vector<std::string> arguments{MEGATRON_PROGRAM, "train"};
  for (const char* flag :
       {"--mock-data", "--vocab-size",    "96",      "--num-layers",
        "2",           "--hidden-size",   "32",      "--num-attention-heads",
        "4",           "--seq-length",    "16",      "--micro-batch-size",
        "2",           "--train-iters",   "1000000", "--lr",
        "1e-3",        "--eval-interval", "0",       "--threads",
        "1",           "--save-interval", "2",       "--distributed-timeout-minutes",
        "0.25"})
    arguments.push_back(flag);
  arguments.insert(arguments.end(),
                   {"--save", save, "--global-batch-size", std::to_string(global_batch_size)});
  arguments.insert(arguments.end(), layout.flags.begin(), layout.flags.end());
  return arguments;
}

// Starts a rank as an external launcher does.
std::unique_ptr<ChildProgram> launched_rank(int rank, int world_size, const std::string& port,
                                            const std::vector<std::string>& arguments) {
  return std::make_unique<ChildProgram>(
      arguments, std::map<std::string, std::string>{{"RANK", std::to_string(rank)},
                                                    {"LOCAL_RANK", std::to_string(rank)},
                                                    {"WORLD_SIZE", std::to_string(world_size)},
                                                    {"MASTER_ADDR", "127.0.0.1"},
                                                    {"MASTER_PORT", port}});
}

// The children of a process in the order of their start.
std::vector<pid_t> children_of(pid_t parent) {
  std::ifstream file(fmt::format("/proc/{0}/task/{0}/children", parent));
  std::vector<pid_t> children;
  for (pid_t child = 0; file >> child;) children.push_back(child);
  return children;
}

void await_checkpoint(const std::string& save, int64_t iteration) {
  for (int i = 0; i < 60'000; ++i) {
    const auto latest = latest_iteration(save);
    if (latest && *latest >= iteration) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  FAIL() << "no checkpoint of iteration " << iteration;
}

void expect_intact_checkpoint(const std::string& save) {
  auto checkpoint = CheckpointReader::open(save);
  EXPECT_GE(checkpoint.iteration(), 2);
  for (const std::string& key : checkpoint.keys()) EXPECT_NO_THROW(checkpoint.load_tensor(key));
}

class RankFailure : public testing::TestWithParam<ProcessLayout> {
 protected:
  // Starts two ranks, waits for a checkpoint and sends a signal to the second rank.
  std::string errors_after(int signal) {
    std::vector<std::string> arguments = endless_training(GetParam(), save_);
    arguments.insert(arguments.end(), {"--nproc", "2"});
    ChildProgram program(arguments);
    await_checkpoint(save_, 2);
    const std::vector<pid_t> ranks = children_of(program.pid());
    EXPECT_EQ(ranks.size(), 2);
    if (ranks.size() == 2) kill(ranks[1], signal);
    EXPECT_NE(program.wait(), 0);
    return program.err();
  }

  TemporaryFolder folder_;
  std::string save_ = (folder_ / "save");
};

TEST_P(RankFailure, KilledRankStopsTheOthersAndTheCheckpointIsIntact) {
  const std::string errors = errors_after(SIGKILL);
  EXPECT_THAT(errors, HasSubstr("signal 9 (Killed)"));
  EXPECT_THAT(last_line(errors), HasSubstr("error: rank 1 (process "));
  // The other rank names the operation that it waited in, which depends on the timing.
  EXPECT_THAT(errors, AnyOf(HasSubstr("(ranks [0, 1]) on rank 0 failed"),
                            HasSubstr("rank [0] did not end by itself")));
  expect_intact_checkpoint(save_);
}

TEST_P(RankFailure, StoppedRankStopsTheOthersAfterTheTimeout) {
  const auto start = std::chrono::steady_clock::now();
  const std::string errors = errors_after(SIGSTOP);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::minutes(2));
  EXPECT_THAT(errors, HasSubstr("rank [1] did not end by itself in time and was ended"));
  EXPECT_THAT(last_line(errors), AllOf(HasSubstr("(ranks [0, 1]) on rank 0 failed: "),
                                       HasSubstr("--distributed-timeout-minutes")));
  expect_intact_checkpoint(save_);
}

// Ranks started by torchrun, SLURM or Open MPI have no launcher of ours that watches them.
TEST_P(RankFailure, WithoutOurLauncherTheOthersExit) {
  const ReservedPort port;
  const auto first = launched_rank(0, 2, port.text(), endless_training(GetParam(), save_));
  const auto second = launched_rank(1, 2, port.text(), endless_training(GetParam(), save_));
  await_checkpoint(save_, 2);
  kill(second->pid(), SIGKILL);
  EXPECT_NE(first->wait(), 0);
  EXPECT_THAT(first->last_error_line(), HasSubstr("(ranks [0, 1]) on rank 0 failed: "));
  expect_intact_checkpoint(save_);
}

TEST_P(RankFailure, DifferentOptionsAreNamedAtStart) {
  const ReservedPort port;
  const auto start = [&](int rank, const std::string& lr) {
    std::vector<std::string> arguments = endless_training(GetParam(), save_);
    arguments.insert(arguments.end(), {"--min-lr", lr});
    return launched_rank(rank, 2, port.text(), arguments);
  };
  const auto first = start(0, "0"), second = start(1, "1e-5");
  EXPECT_NE(first->wait(), 0);
  EXPECT_NE(second->wait(), 0);
  for (const auto& rank : {first.get(), second.get()}) {
    EXPECT_THAT(rank->err(),
                HasSubstr("the same options on all 2 ranks, but rank [1] differs from rank 0: "
                          "--min-lr is 0.0 on rank 0 and 1e-05 on rank 1"));
  }
  EXPECT_FALSE(std::filesystem::exists(save_ + "/latest_checkpointed_iteration.txt"));
}

INSTANTIATE_TEST_SUITE_P(Layouts, RankFailure,
                         testing::Values(ProcessLayout{"tp", {"--tensor-model-parallel-size", "2"}},
                                         ProcessLayout{"pp",
                                                       {"--pipeline-model-parallel-size", "2"}},
                                         ProcessLayout{"dp", {}}),
                         [](const auto& info) { return std::string(info.param.name); });

// Options are compared before the groups of the layout are made.
TEST(RankFailureAtStart, DifferentLayoutIsNamed) {
  const TemporaryFolder folder;
  const ReservedPort port;
  std::vector<std::unique_ptr<ChildProgram>> ranks;
  for (int rank = 0; rank < 4; ++rank) {
    const char* flag =
        rank == 2 ? "--pipeline-model-parallel-size" : "--tensor-model-parallel-size";
    ranks.push_back(launched_rank(rank, 4, port.text(),
                                  endless_training({"", {flag, "2"}}, (folder / "save"))));
  }
  for (const auto& rank : ranks) {
    EXPECT_NE(rank->wait(), 0);
    EXPECT_THAT(rank->err(), HasSubstr("but rank [2] differs from rank 0: "
                                       "--pipeline-model-parallel-size is 1 on rank 0 and 2"));
  }
}

// Rank 0 waits for rank 1, which waits for rank 3. Rank 3 hangs and shares no group with rank 0.
TEST(RankFailureInStep, TheRankThatHangsIsNamedWithoutOurLauncher) {
  const TemporaryFolder folder;
  const ReservedPort port;
  std::vector<std::unique_ptr<ChildProgram>> ranks;
  for (int rank = 0; rank < 4; ++rank) {
    ranks.push_back(launched_rank(
        rank, 4, port.text(),
        endless_training({"", {"--tensor-model-parallel-size", "2"}}, (folder / "save"))));
  }
  await_checkpoint((folder / "save"), 2);
  kill(ranks[3]->pid(), SIGSTOP);
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_NE(ranks[rank]->wait(), 0);
    EXPECT_THAT(ranks[rank]->last_error_line(),
                AllOf(HasSubstr("failed: "), HasSubstr("; rank [3] had not given up")));
  }
  expect_intact_checkpoint((folder / "save"));
}

// Rank 0 serves the store through which ranks report their failures.
TEST(RankFailureInStep, RankZeroHangsOrDiesWithoutOurLauncher) {
  for (const int signal : {SIGSTOP, SIGKILL}) {
    const TemporaryFolder folder;
    const ReservedPort port;
    std::vector<std::unique_ptr<ChildProgram>> ranks;
    for (int rank = 0; rank < 3; ++rank) {
      ranks.push_back(
          launched_rank(rank, 3, port.text(), endless_training({"", {}}, (folder / "save"), 12)));
    }
    await_checkpoint((folder / "save"), 2);
    const auto start = std::chrono::steady_clock::now();
    kill(ranks[0]->pid(), signal);
    for (int rank = 1; rank < 3; ++rank) {
      EXPECT_NE(ranks[rank]->wait(), 0);
      EXPECT_THAT(ranks[rank]->last_error_line(),
                  AllOf(HasSubstr("failed: "), HasSubstr("which rank 0 or its launcher serves")));
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::minutes(1));
    expect_intact_checkpoint((folder / "save"));
  }
}

// Ranks compare their options before one of them acts on an option that only it has.
TEST(RankFailureAtStart, OptionsOfOneRankAreNamed) {
  const TemporaryFolder folder;
  for (const auto& [flag, value, text] :
       {std::tuple{"--tensor-model-parallel-size", "3",
                   "--tensor-model-parallel-size is 1 on rank 0 and 3 on rank 1"},
        {"--no-save-optim", "", "--no-save-optim is false on rank 0 and true on rank 1"},
        {"--profile", "", "--profile is false on rank 0 and true on rank 1"}}) {
    const ReservedPort port;
    std::vector<std::unique_ptr<ChildProgram>> ranks;
    for (int rank = 0; rank < 2; ++rank) {
      std::vector<std::string> arguments = endless_training({"", {}}, (folder / "save"));
      if (rank == 1) {
        arguments.emplace_back(flag);
        if (*value != 0) arguments.emplace_back(value);
      }
      ranks.push_back(launched_rank(rank, 2, port.text(), arguments));
    }
    for (const auto& rank : ranks) {
      EXPECT_NE(rank->wait(), 0);
      EXPECT_THAT(rank->err(), HasSubstr(text));
    }
  }
}

}  // namespace
}  // namespace megatron
