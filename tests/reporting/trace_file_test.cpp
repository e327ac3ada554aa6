// arrange_trace() on small traces in Kineto's format.
#include "megatron/reporting/trace_file.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "megatron/base/error.h"

#include "tests/temporary_folder.h"

namespace megatron {
namespace {

using nlohmann::json;

constexpr int kProcess = 100, kThreadOfRank0 = 101, kThreadOfRank1 = 102, kThreadOfRank2 = 103;

json thread_record(int thread, const std::string& name) {
  return {{"ph", "M"},
          {"name", "thread_name"},
          {"pid", kProcess},
          {"tid", thread},
          {"args", {{"name", "thread " + std::to_string(thread) + " (" + name + ")"}}}};
}

json range_event(int thread, const std::string& name, double begin, double duration,
                 const std::string& category = "user_annotation") {
  return {{"ph", "X"},     {"cat", category}, {"name", name},   {"pid", kProcess},
          {"tid", thread}, {"ts", begin},     {"dur", duration}};
}

class TraceFile : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove(file_); }

  json arranged(const json& events, const TraceRanks& ranks) const {
    std::ofstream(file_) << json{{"traceEvents", events}};
    arrange_trace(file_, ranks);
    return json::parse(std::ifstream(file_))["traceEvents"];
  }
  // Ranks 0 to 2 are threads; 0 and 1 are requested.
  TraceRanks threads() const {
    return {.are_threads = true,
            .ranks = {0, 1},
            .rank_of_thread = {{kThreadOfRank0, 0}, {kThreadOfRank1, 1}, {kThreadOfRank2, 2}},
            .recorder = kThreadOfRank0,
            .process = kProcess};
  }
  static std::multimap<json, std::string> thread_names(const json& events) {
    std::multimap<json, std::string> names;
    for (const json& event : events) {
      if (event["name"] == "thread_name") names.emplace(event["tid"], event["args"]["name"]);
    }
    return names;
  }
  static json event_called(const json& events, const std::string& name) {
    for (const json& event : events) {
      if (event["name"] == name) return event;
    }
    return nullptr;
  }

  const TemporaryFolder folder_;
  const std::string file_ = folder_ / "trace.json";
};

TEST_F(TraceFile, EveryThreadHasItsNameOnce) {
  constexpr int kWorkerOfRank1 = 104, kWithoutEvents = 105;
  // Kineto's second name record of a thread has the recorder's name, and may come first or last.
  for (const bool wrong_first : {true, false}) {
    for (const int twice : {int(kThreadOfRank1), kWorkerOfRank1}) {
      json events = {
          thread_record(kThreadOfRank0, "rank 0"), thread_record(kThreadOfRank1, "rank 1"),
          thread_record(kThreadOfRank2, "rank 2"), thread_record(kWorkerOfRank1, "rank 1"),
          thread_record(kWithoutEvents, "megatron")};
      events.insert(wrong_first ? events.begin() : events.end(), thread_record(twice, "rank 0"));
      for (const int thread :
           {int(kThreadOfRank0), int(kThreadOfRank1), int(kThreadOfRank2), kWorkerOfRank1})
        events.push_back(range_event(thread, "aten::mm", thread, 1, "cpu_op"));
      const json result = arranged(events, threads());
      const std::multimap<json, std::string> expected{{kThreadOfRank0, "rank 0"},
                                                      {kThreadOfRank1, "rank 1"},
                                                      {kWorkerOfRank1, "thread 104 (rank 1)"}};
      EXPECT_EQ(thread_names(result), expected) << wrong_first << twice;
      for (const json& event : result) EXPECT_NE(event["tid"], int(kThreadOfRank2));
    }
  }
}

TEST_F(TraceFile, CommunicationBelongsToTheRankInItsName) {
  constexpr int kSharedThread = 106;  // autograd's thread for a GPU
  const json result = arranged(
      {thread_record(kThreadOfRank0, "rank 0"), thread_record(kSharedThread, "pt_autograd_0"),
       range_event(kThreadOfRank0, "communication of rank 0: barrier over world", 1, 1),
       range_event(kSharedThread, "communication of rank 1: all_reduce over tp, 16 B", 2, 2),
       range_event(kSharedThread, "communication of rank 1: all_reduce over dp, 8 B", 3, 2),
       range_event(kSharedThread, "communication of rank 2: all_gather over tp, 16 B", 4, 2),
       range_event(kThreadOfRank1, "nccl:all_reduce", 5, 1)},
      threads());
  EXPECT_EQ(event_called(result, "barrier over world")["tid"], "communication of rank 0");
  EXPECT_EQ(event_called(result, "all_reduce over tp, 16 B")["tid"], "communication of rank 1");
  EXPECT_EQ(event_called(result, "all_reduce over dp, 8 B")["tid"], "communication of rank 1 (2)");
  EXPECT_TRUE(event_called(result, "all_gather over tp, 16 B").is_null());
  EXPECT_EQ(event_called(result, "nccl:all_reduce")["tid"], "transport of rank 1");
}

TEST_F(TraceFile, AProcessIsNamedAfterItsRankAndGpuStreamsStay) {
  const json stream = {{"ph", "M"},
                       {"name", "thread_name"},
                       {"pid", 0},
                       {"tid", 7},
                       {"args", {{"name", "stream 7"}}}};
  const json result =
      arranged({{{"ph", "M"},
                 {"name", "process_name"},
                 {"pid", kProcess},
                 {"tid", 0},
                 {"args", {{"name", "x"}}}},
                thread_record(kThreadOfRank0, "exe"),
                stream,
                range_event(kThreadOfRank0, "communication of rank 3: barrier over world", 1, 1),
                range_event(kThreadOfRank0, "aten::mm", 1, 1, "cpu_op")},
               {.ranks = {3},
                .rank_of_thread = {{kThreadOfRank0, 3}},
                .recorder = kThreadOfRank0,
                .process = kProcess});
  EXPECT_EQ(event_called(result, "process_name")["args"]["name"], "rank 3");
  const std::multimap<json, std::string> expected{
      {7, "stream 7"}, {kThreadOfRank0, "rank 3"}, {"communication", "communication"}};
  EXPECT_EQ(thread_names(result), expected);
}

TEST_F(TraceFile, BackwardRangesOfLayersShareOneRow) {
  // Layer 1 starts in the hook before the one that ends layer 2.
  const json result = arranged({thread_record(kThreadOfRank0, "exe"),
                                range_event(kThreadOfRank0, "backward of layer 2", 10, 5.5),
                                range_event(kThreadOfRank0, "backward of layer 1", 15, 5)},
                               {.ranks = {0},
                                .rank_of_thread = {{kThreadOfRank0, 0}},
                                .recorder = kThreadOfRank0,
                                .process = kProcess});
  EXPECT_EQ(event_called(result, "backward of layer 2")["tid"], "backward of layers");
  EXPECT_EQ(event_called(result, "backward of layer 1")["tid"], "backward of layers");
  EXPECT_DOUBLE_EQ(event_called(result, "backward of layer 2")["dur"].get<double>(), 5);
}

TEST_F(TraceFile, RefusesOtherFiles) {
  std::ofstream(file_) << "{}";
  EXPECT_THROW(arrange_trace(file_, threads()), Error);
}

}  // namespace
}  // namespace megatron
