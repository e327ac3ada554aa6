// --profile as a user meets it: where traces go, what is in them, what is refused.
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/program.h"

namespace megatron {
namespace {

using testing::HasSubstr;

const std::string kBench =
    "bench --vocab-size 96 --num-layers 2 --hidden-size 32 --num-attention-heads 4 --seq-length 16 "
    "--micro-batch-size 2 --global-batch-size 4 --warmup-steps 1 --steps 3 --threads 1 ";

class ProfileProgram : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/profile-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string flags(const std::string& more = "") const {
    return "--profile --profile-step-start 2 --profile-step-end 4 --profile-dir " + folder_ +
           "/traces " + more;
  }
  std::set<std::string> files() const {
    std::set<std::string> names;
    if (!std::filesystem::exists(folder_ + "/traces")) return names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ + "/traces"))
      names.insert(entry.path().filename().string());
    return names;
  }
  nlohmann::json events(const std::string& file) const {
    std::ifstream stream(folder_ + "/traces/" + file);
    return nlohmann::json::parse(stream)["traceEvents"];
  }

  std::string folder_;
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

TEST_F(ProfileProgram, ShowsProductsBesideTheAllReduceOfTheInputGradient) {
  const ProgramResult result = run_program(kBench + "--nproc 2 --tensor-model-parallel-size 2 " +
                                           flags("--profile-ranks 0,1"));
  ASSERT_EQ(result.status, 0) << result.errors;
  EXPECT_EQ(files(), (std::set<std::string>{"rank0_steps_2-3.json", "rank1_steps_2-3.json"}));
  const nlohmann::json trace = events("rank1_steps_2-3.json");
  const std::set<std::string> all = names(trace);
  for (const char* name :
       {"layer 1", "layer 2", "forward of micro-batch 0", "backward of micro-batch 1", "optimizer"})
    EXPECT_TRUE(all.contains(name)) << name;
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
  // Two layers with two column-parallel products, the output layer; two micro-batches, two steps.
  EXPECT_GE(beside, 2 * 2 * 4);
}

TEST_F(ProfileProgram, RowsOfOneThreadNest) {
  const ProgramResult result = run_program(
      kBench + "--nproc 2 --tensor-model-parallel-size 2 --sequence-parallel --tp-comm-overlap " +
      flags());
  ASSERT_EQ(result.status, 0) << result.errors;
  EXPECT_EQ(files(), std::set<std::string>{"rank0_steps_2-3.json"});
  std::map<std::string, std::vector<Range>> rows;
  for (const auto& event : events("rank0_steps_2-3.json")) {
    if (event.value("cat", "") != "communication") continue;
    const double begin = event["ts"].get<double>();
    rows[event["tid"]].push_back({begin, begin + event.value("dur", 0.0)});
  }
  EXPECT_GT(rows.size(), 1);  // pieces in flight at once
  for (auto& [name, row] : rows) {
    std::ranges::sort(row, {}, &Range::begin);
    for (size_t i = 1; i < row.size(); ++i) EXPECT_GE(row[i].begin + 0.02, row[i - 1].end) << name;
  }
}

TEST_F(ProfileProgram, RanksAsThreadsShareOneFileWithRowsForThoseAskedFor) {
  const ProgramResult result =
      run_program(kBench +
                  "--nproc 4 --threads-as-ranks --tensor-model-parallel-size 2 "
                  "--pipeline-model-parallel-size 2 " +
                  flags("--profile-ranks 1,2"));
  ASSERT_EQ(result.status, 0) << result.errors;
  EXPECT_EQ(files(), std::set<std::string>{"ranks1_2_steps_2-3.json"});
  std::set<std::string> threads;
  for (const auto& event : events("ranks1_2_steps_2-3.json")) {
    if (event.value("name", "") == "thread_name")
      threads.insert(event["args"]["name"].get<std::string>());
  }
  const auto has = [&](const std::string& part) {
    return std::ranges::any_of(
        threads, [&](const std::string& name) { return name.find(part) != std::string::npos; });
  };
  EXPECT_TRUE(has("(rank 1)"));
  EXPECT_TRUE(has("(rank 2)"));
  EXPECT_TRUE(has("communication of rank 1"));
  EXPECT_FALSE(has("rank 0"));
  EXPECT_FALSE(has("rank 3"));
}

TEST_F(ProfileProgram, TrainingSaysWhereItsTraceIs) {
  const ProgramResult result = run_program(
      "train --mock-data --vocab-size 96 --num-layers 2 --hidden-size 32 --num-attention-heads 4 "
      "--seq-length 16 --micro-batch-size 2 --train-iters 4 --lr 1e-3 --eval-interval 0 --threads "
      "1 --use-pytorch-profiler --profile-step-start 2 --profile-step-end 3 --profile-dir " +
      folder_ + "/traces");
  ASSERT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output, HasSubstr("rank0_steps_2-2.json"));
  const std::set<std::string> all = names(events("rank0_steps_2-2.json"));
  EXPECT_TRUE(all.contains("step 2"));
  EXPECT_FALSE(all.contains("step 1"));
  EXPECT_FALSE(all.contains("step 3"));
}

TEST_F(ProfileProgram, RefusesWhatWouldRecordNothing) {
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
