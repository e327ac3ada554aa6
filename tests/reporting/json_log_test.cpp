// The JSON log: its contents, and reading it back after resumes, incomplete lines and full disks.
#include "megatron/reporting/json_log.h"

#include <cmath>
#include <gmock/gmock.h>
#include <limits>

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"

#include "tests/reporting/log_test_tools.h"

namespace megatron {
namespace {

using testing::HasSubstr;

RunStart example_start(int64_t first_iteration, const std::string& layout) {
  RunStart run{example_description(), "2026-01-02T03:04:05Z"};
  run.description.first_iteration = first_iteration;
  run.description.layout = layout;
  return run;
}

TEST(JsonLog, StepFileHoldsOneObjectPerStepOnly) {
  TemporaryFolder folder;
  const auto path = (folder / "deep/er/metrics.jsonl");
  JsonLog log(path, example_start(0, "DP=1"));
  for (int64_t i = 1; i <= 3; ++i) {
    ASSERT_TRUE(log.step(example_step(i)));
    ASSERT_TRUE(log.evaluation({i, "validation", 2.5, 1.0}));
    ASSERT_TRUE(log.note({i, "saved"}));
  }
  const auto lines = lines_of(text_of(path));
  ASSERT_EQ(lines.size(), 3u);
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto object = nlohmann::json::parse(lines[i]);
    EXPECT_EQ(object.at("step"), i + 1);
    for (const char* key : {"loss", "grad_norm", "lr", "ms", "tokens_per_s", "memory_mib"}) {
      EXPECT_TRUE(object.at(key).is_number()) << key;
    }
  }
  EXPECT_EQ(event_log_path(path), (folder / "deep/er/metrics.events.jsonl"));
  EXPECT_EQ(lines_of(text_of(event_log_path(path))).size(), 7u);
}

TEST(JsonLog, NumbersRoundTripExactly) {
  TemporaryFolder folder;
  StepRecord record = example_step(7);
  record.mtp = {{.loss = 4.1, .tokens = 30, .acceptance_rate = 100.0 / 3}, {.loss = 5.2}};
  record.loss = 0.1 + 0.2;
  record.grad_norm = std::nextafter(1e-300, 1);
  record.learning_rate = 2.9999999999999997e-4;
  JsonLog log((folder / "m.jsonl"), example_start(0, "DP=1"));
  ASSERT_TRUE(log.step(record));
  const auto back = read_json_log((folder / "m.jsonl")).steps.at(0);
  EXPECT_EQ(back.iteration, record.iteration);
  EXPECT_EQ(back.consumed_samples, record.consumed_samples);
  EXPECT_EQ(back.batch_size, record.batch_size);
  EXPECT_EQ(back.loss, record.loss);
  ASSERT_EQ(back.mtp.size(), 2);
  EXPECT_EQ(back.mtp[0].loss, 4.1);
  EXPECT_EQ(back.mtp[0].tokens, 30);
  EXPECT_EQ(back.mtp[0].acceptance_rate, 100.0 / 3);
  EXPECT_EQ(back.mtp[1].loss, 5.2);
  EXPECT_EQ(back.grad_norm, record.grad_norm);
  EXPECT_EQ(back.learning_rate, record.learning_rate);
  EXPECT_EQ(back.step_ms, record.step_ms);
  EXPECT_EQ(back.tokens_per_s, record.tokens_per_s);
  EXPECT_EQ(back.model_tflops, record.model_tflops);
  EXPECT_EQ(back.gemm_peak_fraction, record.gemm_peak_fraction);
  EXPECT_EQ(back.memory_mib, record.memory_mib);
}

TEST(JsonLog, NanAndInfinityAreValidJson) {
  TemporaryFolder folder;
  StepRecord record = example_step(1);
  record.loss = std::nan("");
  record.grad_norm = std::numeric_limits<double>::infinity();
  record.learning_rate = -std::numeric_limits<double>::infinity();
  JsonLog log((folder / "m.jsonl"), example_start(0, "DP=1"));
  ASSERT_TRUE(log.step(record));
  const auto object = nlohmann::json::parse(text_of((folder / "m.jsonl")));
  EXPECT_EQ(object.at("loss"), "NaN");
  EXPECT_EQ(object.at("grad_norm"), "Infinity");
  EXPECT_EQ(object.at("lr"), "-Infinity");
  const auto back = read_json_log((folder / "m.jsonl")).steps.at(0);
  EXPECT_TRUE(std::isnan(back.loss));
  EXPECT_EQ(back.grad_norm, record.grad_norm);
  EXPECT_EQ(back.learning_rate, record.learning_rate);
}

TEST(JsonLog, EventsRoundTrip) {
  TemporaryFolder folder;
  auto run = example_start(0, "TP=2 \"quoted\" \xff");  // a byte that is not UTF-8
  run.description.gemm_peak_tflops = 0.25;
  {
    JsonLog log((folder / "m.jsonl"), run);
    log.evaluation({10, "validation", 2.5, 1.25});
    log.evaluation({10, "test", 2.75, std::nullopt});
    log.note({10, "saved"});
    log.summary({"bits per byte", {{"this model", "1.95"}, {"unigram", "2.35"}}});
  }
  const auto history = read_json_log((folder / "m.jsonl"));
  ASSERT_EQ(history.runs.size(), 1u);
  EXPECT_EQ(history.runs[0].time, run.time);
  EXPECT_EQ(history.runs[0].description.layout, "TP=2 \"quoted\" \xef\xbf\xbd");
  EXPECT_EQ(history.runs[0].description.title, run.description.title);
  EXPECT_EQ(history.runs[0].description.settings, run.description.settings);
  EXPECT_EQ(history.runs[0].description.stages, run.description.stages);
  EXPECT_EQ(history.runs[0].description.train_iters, 600);
  EXPECT_EQ(history.runs[0].description.world_size, 4);
  EXPECT_EQ(history.runs[0].description.gemm_peak_tflops, 0.25);
  ASSERT_EQ(history.evaluations.size(), 2u);
  EXPECT_EQ(history.evaluations[0].bits_per_byte, 1.25);
  EXPECT_EQ(history.evaluations[1].split, "test");
  EXPECT_FALSE(history.evaluations[1].bits_per_byte.has_value());
  EXPECT_EQ(history.notes.at(0).text, "saved");
  EXPECT_EQ(history.summaries.at(0).rows.at(1).second, "2.35");
}

// The run is killed in the middle of a line at step 25, with a checkpoint at step 20, and resumed in
// another layout.
TEST(JsonLog, ResumeContinuesTheFileAndTheHistory) {
  TemporaryFolder folder;
  const auto path = (folder / "m.jsonl");
  {
    JsonLog log(path, example_start(0, "TP=2 x PP=2"));
    for (int64_t i = 1; i <= 25; ++i) {
      log.step(example_step(i));
      if (i % 5 == 0)
        log.evaluation({i, "validation", 5 - 0.1 * static_cast<double>(i), std::nullopt});
    }
    log.summary({"stopped", {}});
  }
  append_text(path, "{\"step\":26,\"lo");
  append_text(event_log_path(path), "{\"event\":\"eval");
  const auto before = text_of(path);
  {
    JsonLog log(path, example_start(20, "TP=2 x DP=2"));
    for (int64_t i = 21; i <= 30; ++i) {
      StepRecord record = example_step(i);
      record.loss = 100 + static_cast<double>(i);
      log.step(record);
    }
    log.evaluation({30, "validation", 1.0, std::nullopt});
  }
  EXPECT_EQ(text_of(path).substr(0, before.size()), before);  // nothing was removed

  const auto history = read_json_log(path);
  ASSERT_EQ(history.steps.size(), 30u);
  for (size_t i = 0; i < 30; ++i) {
    EXPECT_EQ(history.steps[i].iteration, static_cast<int64_t>(i) + 1);
    EXPECT_EQ(history.steps[i].loss > 100, i >= 20);
  }
  ASSERT_EQ(history.runs.size(), 2u);
  EXPECT_EQ(history.runs[1].description.layout, "TP=2 x DP=2");
  std::vector<int64_t> evaluated;
  for (const auto& record : history.evaluations) evaluated.push_back(record.iteration);
  EXPECT_THAT(evaluated, testing::ElementsAre(5, 10, 15, 20, 30));
  EXPECT_TRUE(history.summaries.empty());
}

TEST(JsonLog, ANewRunInAnOldFileReplacesItsHistory) {
  TemporaryFolder folder;
  const auto path = (folder / "m.jsonl");
  for (int run = 0; run < 2; ++run) {
    JsonLog log(path, example_start(0, "DP=1"));
    log.note({0, "started"});
    for (int64_t i = 1; i <= 5; ++i) log.step(example_step(i));
  }
  EXPECT_EQ(lines_of(text_of(path)).size(), 10u);
  const auto history = read_json_log(path);
  EXPECT_EQ(history.steps.size(), 5u);
  EXPECT_EQ(history.runs.size(), 1u);
  EXPECT_EQ(history.notes.size(), 1u);
}

TEST(CutJsonLog, MovesTheStepsThatAResumeRepeats) {
  TemporaryFolder folder;
  const auto path = (folder / "m.jsonl");
  {
    JsonLog log(path, example_start(0, "DP=1"));
    for (int64_t i = 1; i <= 7; ++i) {
      log.step(example_step(i));
      if (i % 2 == 0) log.evaluation({i, "validation", 2.0, std::nullopt});
    }
    log.summary({"bits per byte", {}});
  }
  append_text(path, "{\"step\":8,\"lo");  // killed while writing
  EXPECT_EQ(cut_json_log(path, 4), 3 + 2);
  const auto steps = lines_of(text_of(path));
  ASSERT_EQ(steps.size(), 4u);
  EXPECT_THAT(steps.back(), testing::StartsWith("{\"step\":4,"));
  EXPECT_EQ(lines_of(text_of(event_log_path(path))).size(), 3u);  // start, evaluations of 2 and 4
  const auto moved = lines_of(text_of((folder / "m.superseded.jsonl")));
  ASSERT_EQ(moved.size(), 4u);
  EXPECT_THAT(moved.front(), testing::StartsWith("{\"step\":5,"));
  EXPECT_EQ(cut_json_log(path, 4), 0);
  EXPECT_EQ(cut_json_log(path, 0), 4 + 3);  // from scratch
  EXPECT_EQ(text_of(path), "");
}

TEST(CutJsonLog, LeavesOtherFilesAlone) {
  TemporaryFolder folder;
  for (const char* text : {"hello\n{\"a\": 1}\n", "[1]\n", "one line"}) {
    append_text((folder / "notes"), text);
    const auto before = text_of((folder / "notes"));
    EXPECT_EQ(cut_json_log((folder / "notes"), 0), 0);
    EXPECT_EQ(text_of((folder / "notes")), before);
  }
  EXPECT_EQ(cut_json_log("", 0), 0);
  EXPECT_EQ(cut_json_log("/dev/stdout", 0), 0);
  EXPECT_EQ(cut_json_log((folder / "missing"), 0), 0);
}

TEST(JsonLog, ReadsLogsOfOtherPrograms) {
  TemporaryFolder folder;
  EXPECT_TRUE(read_json_log((folder / "missing.jsonl")).steps.empty());
  append_text((folder / "empty.jsonl"), "");
  EXPECT_TRUE(read_json_log((folder / "empty.jsonl")).steps.empty());
  // Steps of another program, without other keys and without events.
  append_text((folder / "other.jsonl"), R"({"step":1,"loss":2,"grad_norm":3,"lr":4,"more":[]})"
                                        "\n[1]\n");
  EXPECT_EQ(read_json_log((folder / "other.jsonl")).steps.at(0).learning_rate, 4);
  append_text((folder / "text.txt"), "hello\n");
  EXPECT_THROW(read_json_log((folder / "text.txt")), Error);
}

TEST(JsonLog, FullDiskAtTheStartIsAnErrorAndKeepsTheLog) {
  TemporaryFolder folder;
  const auto path = (folder / "m.jsonl");
  {
    JsonLog log(path, example_start(0, "DP=1"));
    log.step(example_step(1));
  }
  const auto before = text_of(path);
  {
    FileSizeLimit limit(before.size());
    try {
      JsonLog log(path, example_start(1, "DP=1"));
      FAIL();
    } catch (const Error& error) {
      EXPECT_THAT(error.what(),
                  HasSubstr("Expected space for the file of --log-json, but got 'File too large'"));
    }
  }
  EXPECT_EQ(text_of(path), before);
  EXPECT_THROW(JsonLog("/dev/full", example_start(0, "DP=1")), Error);
}

TEST(JsonLog, FullDiskLaterLosesCompleteRecordsOnly) {
  TemporaryFolder folder;
  const auto path = (folder / "m.jsonl");
  JsonLog log(path, example_start(0, "DP=1"));
  log.step(example_step(1));
  {
    FileSizeLimit limit(std::filesystem::file_size(path) + 50);
    EXPECT_FALSE(log.step(example_step(2)));
    EXPECT_EQ(log.error(), "File too large");
  }
  EXPECT_TRUE(log.step(example_step(3)));
  const auto lines = lines_of(text_of(path));
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(nlohmann::json::parse(lines[1]).at("step"), 3);
}

TEST(JsonLog, PathThatCannotBeOpenedIsAnError) {
  TemporaryFolder folder;
  EXPECT_THROW(JsonLog((folder / ""), example_start(0, "DP=1")), Error);
  append_text((folder / "file"), "x");
  EXPECT_THROW(JsonLog((folder / "file/m.jsonl"), example_start(0, "DP=1")), Error);
}

}  // namespace
}  // namespace megatron
