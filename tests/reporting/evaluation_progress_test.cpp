#include "megatron/reporting/evaluation_progress.h"

#include <gmock/gmock.h>
#include <vector>

#include <gtest/gtest.h>

#include "megatron/reporting/run_log.h"

#include "tests/reporting/log_test_tools.h"
#include "tests/reporting/pseudo_terminal.h"

namespace megatron {
namespace {

TEST(EvaluationProgressLine, ShowsBatchesAndTimeLeft) {
  EXPECT_EQ(
      evaluation_progress_line({.split = "validation", .done = 25, .batches = 100, .seconds = 10}),
      "evaluating on the validation split: batch 25/100 | 0:30 left");
}

// The batches that get a line if each takes `seconds`.
std::vector<int64_t> batches_with_lines(EvaluationLines& lines, double seconds, int64_t batches) {
  std::vector<int64_t> result;
  for (int64_t i = 1; i <= batches; ++i) {
    if (lines.due({.split = "test", .done = i, .batches = batches, .seconds = double(i) * seconds}))
      result.push_back(i);
  }
  return result;
}

TEST(EvaluationLines, StartAfterTwoSecondsThenEveryTen) {
  EvaluationLines lines;
  EXPECT_THAT(batches_with_lines(lines, 0.4, 100), testing::ElementsAre(5, 30, 55, 80));
  EXPECT_THAT(batches_with_lines(lines, 0.4, 100), testing::ElementsAre(5, 30, 55, 80));
  EXPECT_THAT(batches_with_lines(lines, 0.01, 100), testing::IsEmpty());
}

TEST(RunLogEvaluation, ShowsAStatusLineOnATerminal) {
  PseudoTerminal device(100);
  const ScopedVariable no_color("NO_COLOR", "1");
  RunLog log(LoggingConfig(), example_description(), std::make_unique<Terminal>(device.stream()));
  device.output();
  log.evaluation_progress({.split = "validation", .done = 1, .batches = 4, .seconds = 1});
  EXPECT_THAT(device.output(),
              testing::EndsWith("evaluating on the validation split: batch 1/4 | 0:03 left"));
  log.evaluation({.iteration = 2, .split = "validation", .loss = 1.0});
  EXPECT_THAT(device.output(), testing::EndsWith("\r\x1b[2K"));  // the status line is cleared
}

}  // namespace
}  // namespace megatron
