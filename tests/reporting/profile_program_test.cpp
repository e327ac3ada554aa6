// --profile on the command line: trace files, their contents, and errors.
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/program.h"
#include "tests/temporary_folder.h"

namespace megatron {
namespace {

using testing::HasSubstr;

const std::string kBench =
    "bench --vocab-size 96 --num-layers 2 --hidden-size 32 --num-attention-heads 4 --seq-length 16 "
    "--micro-batch-size 2 --global-batch-size 4 --warmup-steps 1 --steps 3 --threads 1 ";

class ProfileProgram : public testing::Test {
 protected:
  std::string flags(const std::string& more = "") const {
    return "--profile --profile-step-start 2 --profile-step-end 4 --profile-dir " + traces_ + " " +
           more;
  }
  std::set<std::string> files() const {
    std::set<std::string> names;
    if (!std::filesystem::exists(traces_)) return names;
    for (const auto& entry : std::filesystem::directory_iterator(traces_))
      names.insert(entry.path().filename().string());
    return names;
  }
  nlohmann::json events(const std::string& file) const {
    std::ifstream stream(traces_ + "/" + file);
    return nlohmann::json::parse(stream)["traceEvents"];
  }

  const TemporaryFolder folder_;
  const std::string traces_ = folder_ / "traces";
};

struct Range {
  double begin, end;
};

template <typename Wanted>
std::vector<Range> ranges(const nlohmann::json& events, const Wanted& wanted) {
  std::vector<Range> found;
  for (const auto& event : events) {
    if (event.value("ph", "") != "X" || !wanted(event)) continue;
    const double begin = event["ts"].get<double>();
    found.push_back({begin, begin + event.value("dur", 0.0)});
  }
  return found;
}

std::set<std::string> names(const nlohmann::json& events) {
  std::set<std::string> all;
  for (const auto& event : events) all.insert(event.value("name", ""));
  return all;
}

std::multiset<std::string> names_of_threads(const nlohmann::json& events) {
  std::multiset<std::string> all;
  for (const auto& event : events) {
    if (event.value("name", "") == "thread_name")
      all.insert(event["args"]["name"].get<std::string>());
  }
  return all;
}

TEST_F(ProfileProgram, ShowsMatmulsDuringTheAllReduceOfTheInputGradient) {
  const ProgramResult result = run_program(kBench + "--nproc 2 --tensor-model-parallel-size 2 " +
                                           flags("--profile-ranks 0,1"));
  ASSERT_EQ(result.status, 0) << result.errors;
  EXPECT_EQ(files(), (std::set<std::string>{"rank0_steps_3-4.json", "rank1_steps_3-4.json"}));
  const nlohmann::json trace = events("rank1_steps_3-4.json");
  const std::set<std::string> all = names(trace);
  for (const char* name :
       {"layer 1", "layer 2", "backward of layer 1", "backward of layer 2",
        "forward of micro-batch 0", "backward of micro-batch 1", "optimizer", "barrier over world"})
    EXPECT_TRUE(all.contains(name)) << name;
  EXPECT_TRUE(names_of_threads(trace).contains("rank 1"));
  const auto reductions = ranges(trace, [](const auto& event) {
    return event["tid"] == "communication" &&
           event["name"].template get<std::string>().starts_with("all_reduce over tp");
  });
  ASSERT_FALSE(reductions.empty());
  const auto products = ranges(trace, [](const auto& event) {
    const std::string name = event["name"];
    return event["tid"] != "communication" && (name == "aten::addmm_" || name == "aten::mm");
  });
  const auto beside = std::ranges::count_if(products, [&](const Range& product) {
    return std::ranges::any_of(reductions, [&](const Range& reduction) {
      return reduction.begin <= product.begin && product.end <= reduction.end;
    });
  });
  // Two layers with two column-parallel linears and the output layer; two micro-batches, two steps.
  EXPECT_GE(beside, 2 * 2 * 4);
}

// In the reverse order of the forward ranges: two micro-batches in each of two steps.
TEST_F(ProfileProgram, LayersHaveBackwardRangesWithinThoseOfTheirMicroBatches) {
  const ProgramResult result = run_program(kBench + flags());
  ASSERT_EQ(result.status, 0) << result.errors;
  const nlohmann::json trace = events("rank0_steps_3-4.json");
  const auto called = [&](const std::string& name) {
    return ranges(trace, [&](const auto& event) { return event["name"] == name; });
  };
  std::vector<Range> passes = called("backward of micro-batch 0");
  for (const Range& pass : called("backward of micro-batch 1")) passes.push_back(pass);
  const std::vector<Range> first = called("backward of layer 1"),
                           second = called("backward of layer 2");
  EXPECT_EQ(first.size(), 4);
  EXPECT_EQ(second.size(), 4);
  for (const Range& pass : passes) {
    const auto within = [&](const Range& range) {
      return pass.begin <= range.begin && range.end <= pass.end;
    };
    const auto lower = std::ranges::find_if(first, within),
               upper = std::ranges::find_if(second, within);
    ASSERT_NE(lower, first.end());
    ASSERT_NE(upper, second.end());
    EXPECT_LT(upper->begin, upper->end);
    EXPECT_LT(lower->begin, lower->end);
    EXPECT_LE(upper->end, lower->begin + 0.02);
  }
}

TEST_F(ProfileProgram, RowsOfOneThreadNest) {
  const ProgramResult result = run_program(
      kBench + "--nproc 2 --tensor-model-parallel-size 2 --sequence-parallel --tp-comm-overlap " +
      flags());
  ASSERT_EQ(result.status, 0) << result.errors;
  EXPECT_EQ(files(), std::set<std::string>{"rank0_steps_3-4.json"});
  std::map<std::string, std::vector<Range>> rows;
  for (const auto& event : events("rank0_steps_3-4.json")) {
    if (event.value("cat", "") != "communication") continue;
    const double begin = event["ts"].get<double>();
    rows[event["tid"]].push_back({begin, begin + event.value("dur", 0.0)});
  }
  EXPECT_GT(rows.size(), 1);  // several pieces are in flight at once
  for (auto& [name, row] : rows) {
    std::ranges::sort(row, {}, &Range::begin);
    for (size_t i = 1; i < row.size(); ++i) EXPECT_GE(row[i].begin + 0.02, row[i - 1].end) << name;
  }
}

// The last step's gathers are still in flight when the recording ends.
TEST_F(ProfileProgram, NoRangeIsCutOffAtTheEnd) {
  const ProgramResult result = run_program(
      kBench +
      "--nproc 2 --use-distributed-optimizer --overlap-grad-reduce --overlap-param-gather " +
      flags(""));
  ASSERT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.errors, testing::Not(HasSubstr("Warning")));
}

TEST_F(ProfileProgram, RanksAsThreadsShareOneFileWithRowsOfTheRequestedRanks) {
  const ProgramResult result =
      run_program(kBench +
                  "--nproc 4 --threads-as-ranks --tensor-model-parallel-size 2 "
                  "--pipeline-model-parallel-size 2 " +
                  flags("--profile-ranks 1,2"));
  ASSERT_EQ(result.status, 0) << result.errors;
  EXPECT_EQ(files(), std::set<std::string>{"ranks1_2_steps_3-4.json"});
  std::set<std::string> threads;
  for (const auto& event : events("ranks1_2_steps_3-4.json")) {
    if (event.value("name", "") == "thread_name")
      threads.insert(event["args"]["name"].get<std::string>());
  }
  const auto has = [&](const std::string& part) {
    return std::ranges::any_of(
        threads, [&](const std::string& name) { return name.find(part) != std::string::npos; });
  };
  EXPECT_TRUE(threads.contains("rank 1"));
  EXPECT_TRUE(threads.contains("rank 2"));
  EXPECT_TRUE(has("communication of rank 1"));
  EXPECT_FALSE(has("rank 0"));
  EXPECT_FALSE(has("rank 3"));
}

// Kineto's thread names depend on which thread comes first, which varies from run to run.
TEST_F(ProfileProgram, RowsOfRanksAsThreadsAreLabelledCorrectlyInEveryRun) {
  for (int run = 0; run < 3; ++run) {
    SCOPED_TRACE(run);
    const ProgramResult result =
        run_program(kBench +
                    "--nproc 4 --threads-as-ranks --pipeline-model-parallel-size 2 "
                    "--context-parallel-size 2 " +
                    flags("--profile-ranks 0,2"));
    ASSERT_EQ(result.status, 0) << result.errors;
    // Kineto's warning about the thread that it starts on.
    EXPECT_THAT(result.errors, testing::Not(HasSubstr("ERROR")));
    const nlohmann::json trace = events("ranks0_2_steps_3-4.json");
    std::map<nlohmann::json, std::string> name_of;
    for (const auto& event : trace) {
      if (event.value("name", "") != "thread_name") continue;
      EXPECT_TRUE(name_of.emplace(event["tid"], event["args"]["name"]).second)
          << event["tid"] << " has two names";
    }
    std::set<std::string> layers_of[2], operations_of[2];
    for (const auto& event : trace) {
      if (event.value("ph", "") != "X") continue;
      const std::string name = event["name"], row = name_of[event["tid"]];
      for (const int i : {0, 1}) {
        const std::string rank = i == 0 ? "rank 0" : "rank 2";
        if (row == rank && name.starts_with("layer ")) layers_of[i].insert(name);
        if (row.starts_with("communication of " + rank) && name.find("rank") != std::string::npos)
          operations_of[i].insert(name.substr(0, name.find(',')));
      }
    }
    // Ranks 0 and 1 share the sequences of the first stage, 2 and 3 those of the second.
    EXPECT_EQ(layers_of[0], std::set<std::string>{"layer 1"});
    EXPECT_EQ(layers_of[1], std::set<std::string>{"layer 2"});
    EXPECT_EQ(operations_of[0],
              (std::set<std::string>{"send to rank 1 over cp", "recv from rank 1 over cp",
                                     "send to rank 2 over pp", "recv from rank 2 over pp"}));
    EXPECT_EQ(operations_of[1],
              (std::set<std::string>{"send to rank 3 over cp", "recv from rank 3 over cp",
                                     "send to rank 0 over pp", "recv from rank 0 over pp"}));
  }
}

TEST_F(ProfileProgram, TrainingPrintsThePathOfTheTrace) {
  const ProgramResult result = run_program(
      "train --mock-data --vocab-size 96 --num-layers 2 --hidden-size 32 --num-attention-heads 4 "
      "--seq-length 16 --micro-batch-size 2 --train-iters 4 --lr 1e-3 --eval-interval 0 --threads "
      "1 --use-pytorch-profiler --profile-step-start 2 --profile-step-end 3 --profile-dir " +
      traces_);
  ASSERT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output, HasSubstr("rank0_step_3.json"));
  const std::set<std::string> all = names(events("rank0_step_3.json"));
  EXPECT_TRUE(all.contains("step 3"));
  EXPECT_FALSE(all.contains("step 2"));
  EXPECT_FALSE(all.contains("step 4"));
}

TEST_F(ProfileProgram, RefusesOptionsThatRecordNothing) {
  const auto refused = [](const std::string& more) {
    const ProgramResult result = run_program(kBench + more);
    EXPECT_EQ(result.status, 1) << more;
    return result.errors;
  };
  EXPECT_THAT(refused("--profile"), HasSubstr("at most the run's 4 steps, but got 12"));
  EXPECT_THAT(refused("--profile --profile-step-start 2 --profile-step-end 2"),
              HasSubstr("--profile-step-end above --profile-step-start (2), but got 2"));
  EXPECT_THAT(refused("--profile-ranks 0,1"), HasSubstr("--profile with the other"));
  EXPECT_THAT(refused("--profile --profile-step-start 1 --profile-step-end 2 --profile-ranks 2"),
              HasSubstr("--profile-ranks within 0 to 0, but got 2"));
  EXPECT_THAT(refused("--profile --profile-step-start 1 --profile-step-end 2 --profile-dir "
                      "/proc/nowhere"),
              HasSubstr("--profile-dir"));
}

}  // namespace
}  // namespace megatron
