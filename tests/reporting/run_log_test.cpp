// The log of complete runs: in a pipe, on a terminal, after a resume, and with write errors.
#include "megatron/reporting/run_log.h"

#include <gmock/gmock.h>

#include "megatron/base/error.h"
#include "megatron/reporting/json_log.h"

#include "tests/reporting/log_test_tools.h"
#include "tests/reporting/pseudo_terminal.h"

namespace megatron {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

RunDescription short_description(int64_t first_iteration = 0) {
  auto description = example_description();
  description.train_iters = 12;
  description.first_iteration = first_iteration;
  return description;
}

// Losses 1 to 12, so that means differ from single values.
StepRecord short_step(int64_t iteration) {
  StepRecord record = example_step(iteration);
  record.loss = static_cast<double>(iteration);
  record.grad_norm = 1.5;
  record.learning_rate = 1e-3;
  record.step_ms = 100;
  return record;
}

TEST(RunLog, PrintsPlainLinesInAPipe) {
  LoggingConfig config;
  config.log_interval = 5;
  testing::internal::CaptureStdout();
  {
    RunLog log(config, short_description());
    for (int64_t i = 1; i <= 12; ++i) {
      log.step(short_step(i));
      if (i == 10) {
        log.evaluation({10, "validation", 2.0, 1.25});
        log.note("saved a checkpoint");
      }
    }
    log.summary("bits per byte", {{"this model", "1.25"}});
    log.finish();
    log.finish();
  }
  const auto text = testing::internal::GetCapturedStdout();
  EXPECT_EQ(text.find_first_of("\x1b\r\b"), text.npos);
  EXPECT_THAT(
      lines_of(text),
      ElementsAre("model    4 layers x 256, 4.2M parameters",
                  "layout   TP=2 x PP=2 x DP=1, 4 processes (gloo), 1 thread each",
                  "steps    1 to 12", "stages   stage 0: layers 0-1, 2.1M parameters",
                  "         stage 1: layers 2-3, 2.1M parameters",
                  "options that differ from their defaults:",
                  "  num-layers  4    hidden-size  256    seed  42", "",
                  "step  5/12 | loss  3.0000 | grad norm  1.500 | lr 1.000e-03 |  100.0 ms | 12.0k "
                  "tok/s |   0.15 "
                  "TFLOP/s (38% of peak) |   812 MiB |    0:01 left",
                  "step 10/12 | loss  8.0000 | grad norm  1.500 | lr 1.000e-03 |  100.0 ms | 12.0k "
                  "tok/s |   0.15 "
                  "TFLOP/s (38% of peak) |   812 MiB |    0:00 left",
                  "step 10/12 | validation loss 2.0000 | perplexity 7.389 | 1.2500 bits per byte",
                  "saved a checkpoint",
                  "step 12/12 | loss 11.5000 | grad norm  1.500 | lr 1.000e-03 |  100.0 ms | 12.0k "
                  "tok/s |   0.15 "
                  "TFLOP/s (38% of peak) |   812 MiB |    0:00 left",
                  "+- bits per byte --+", "| this model  1.25 |", "+------------------+"));
}

TEST(RunLog, PrintsPendingStepsAtTheEnd) {
  LoggingConfig config;
  config.log_interval = 5;
  testing::internal::CaptureStdout();
  {
    RunLog log(config, short_description());
    for (int64_t i = 1; i <= 7; ++i) log.step(short_step(i));
    log.print_pending_steps();
    log.print_pending_steps();  // prints nothing more
    log.step(short_step(8));
  }
  const auto text = testing::internal::GetCapturedStdout();
  const auto lines = lines_of(text);
  ASSERT_EQ(std::ranges::count_if(lines, [](const auto& l) { return l.starts_with("step "); }), 3)
      << text;
  EXPECT_THAT(text, HasSubstr("step  7/12 | loss  6.5000"));
  EXPECT_THAT(text, HasSubstr("step  8/12 | loss  8.0000"));
}

TEST(RunLog, MeanRatesAreWeightedByTime) {
  LoggingConfig config;
  config.log_interval = 2;
  testing::internal::CaptureStdout();
  {
    RunLog log(config, short_description());
    StepRecord slow = short_step(1), fast = short_step(2);
    slow.step_ms = 300;
    slow.tokens_per_s = 1000;
    fast.step_ms = 100;
    fast.tokens_per_s = 3000;
    log.step(slow);
    log.step(fast);
  }
  // 300 and 300 tokens in 400 ms.
  EXPECT_THAT(testing::internal::GetCapturedStdout(), HasSubstr("|  200.0 ms | 1.50k tok/s |"));
}

TEST(RunLog, ShowsAProgressBarOnATerminal) {
  PseudoTerminal device(150);
  const ScopedVariable language("LC_ALL", "C");
  const ScopedVariable no_color("NO_COLOR", "1");
  LoggingConfig config;
  config.log_interval = 3;
  RunLog log(config, short_description(), std::make_unique<Terminal>(device.stream()));
  device.output();
  for (int64_t i = 1; i <= 3; ++i) log.step(short_step(i));
  const std::string bar =
      "==========------------------------------  25.0% | step 3/12 | loss 3.0000 | 0:01 left";
  const auto first = device.output();
  EXPECT_THAT(first, HasSubstr("\r\x1b[2Kstep  3/12 | loss  2.0000"));
  EXPECT_TRUE(first.ends_with("\r\x1b[2K" + bar)) << first;
  log.note("saved");
  EXPECT_EQ(device.output(), "\r\x1b[2Ksaved\r\n" + bar);

  device.resize(40);  // the bar and the lines follow the window
  for (int64_t i = 4; i <= 6; ++i) log.step(short_step(i));
  for (const auto& piece : lines_of(device.output())) {
    const auto shown = piece.substr(piece.rfind('K') + 1);
    EXPECT_LT(display_width(shown), 42) << shown;
  }
  for (int64_t i = 7; i <= 12; ++i) log.step(short_step(i));
  const auto last = device.output();
  EXPECT_TRUE(last.ends_with("\r\n") || last.ends_with("\r\x1b[2K")) << last;  // the bar is removed
}

TEST(RunLog, NoColorTurnsColoursOff) {
  for (const char* value : {"", "1"}) {
    PseudoTerminal device(100);
    const ScopedVariable no_color("NO_COLOR", value);
    RunLog log(LoggingConfig(), short_description(), std::make_unique<Terminal>(device.stream()));
    log.step(short_step(1));
    EXPECT_EQ(device.output().find("\x1b[32m") != std::string::npos, *value == '\0');
  }
}

class RunLogFiles : public testing::Test {
 protected:
  RunLogFiles() {
    config_.tensorboard_dir = (folder_ / "run/tensorboard");
    config_.log_json = (folder_ / "run/metrics.jsonl");
    config_.report = (folder_ / "run/report.html");
    config_.log_interval = 4;
  }
  // Logs the steps after `first` up to `last`; the terminal's output is discarded.
  void train(int64_t first, int64_t last, const std::string& layout = "DP=1") {
    testing::internal::CaptureStdout();
    auto description = short_description(first);
    description.layout = layout;
    RunLog log(config_, description);
    for (int64_t i = first + 1; i <= last; ++i) log.step(short_step(i));
    log.evaluation({last, "validation", 2.5, 1.5});
    log.finish();
    testing::internal::GetCapturedStdout();
  }
  std::string error_of_starting() {
    testing::internal::CaptureStdout();
    std::string text;
    try {
      RunLog log(config_, short_description());
    } catch (const Error& error) {
      text = error.what();
    }
    testing::internal::GetCapturedStdout();
    EXPECT_EQ(text.find('\n'), text.npos);
    return text;
  }

  TemporaryFolder folder_;
  LoggingConfig config_;
};

TEST_F(RunLogFiles, HoldEveryStepAtAnyInterval) {
  train(0, 12);
  EXPECT_EQ(lines_of(text_of(config_.log_json)).size(), 12u);
  EXPECT_THAT(text_of(config_.report), HasSubstr("<b>12 / 12</b>"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(config_.tensorboard_dir), {}), 1);
}

TEST_F(RunLogFiles, ResumeInAnotherLayoutContinuesTheCurve) {
  train(0, 8, "TP=2 x PP=2, gloo");
  train(6, 12, "TP=2 x DP=2, gloo");
  EXPECT_EQ(lines_of(text_of(config_.log_json)).size(), 12u);  // every step once
  EXPECT_EQ(lines_of(text_of((folder_ / "run/metrics.superseded.jsonl"))).size(), 2u);
  const auto history = read_json_log(config_.log_json);
  EXPECT_EQ(history.steps.size(), 12u);
  const auto page = text_of(config_.report);
  EXPECT_THAT(page, HasSubstr("resumed: TP=2 x DP=2<"));
  EXPECT_THAT(page, HasSubstr("<td>TP=2 x PP=2, gloo</td><td>1 to 6</td>"));
  EXPECT_THAT(page, HasSubstr("<td>TP=2 x DP=2, gloo</td><td>7 to 12</td>"));
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(config_.tensorboard_dir))
    names.push_back(entry.path().filename());
  EXPECT_EQ(names.size(), 3u);
  EXPECT_EQ(std::ranges::count_if(
                names, [](const auto& name) { return name.find("tfevents") != name.npos; }),
            2);
}

TEST_F(RunLogFiles, ReportIsWrittenAtTheStartAndWithoutAJsonLog) {
  config_.log_json.clear();
  {
    testing::internal::CaptureStdout();
    RunLog log(config_, short_description());
    EXPECT_THAT(text_of(config_.report), HasSubstr("4 layers x 256"));
    for (int64_t i = 1; i <= 5; ++i) log.step(short_step(i));
  }  // without finish(), as after an error
  testing::internal::GetCapturedStdout();
  EXPECT_THAT(text_of(config_.report), HasSubstr("<b>5 / 12</b>"));
}

TEST_F(RunLogFiles, WriteErrorsAtTheStartAreErrors) {
  append_text((folder_ / "file"), "x");
  const auto good = config_;
  config_.tensorboard_dir = (folder_ / "file/tensorboard");
  EXPECT_THAT(error_of_starting(), HasSubstr("Expected --tensorboard-dir to name a folder"));
  config_ = good;
  config_.log_json = (folder_ / "file/metrics.jsonl");
  EXPECT_THAT(error_of_starting(), HasSubstr("Expected --log-json to name a folder"));
  config_ = good;
  config_.log_json = "/dev/full";
  EXPECT_THAT(error_of_starting(), HasSubstr("No space left on device"));
  config_ = good;
  config_.report = (folder_ / "file/report.html");
  EXPECT_THAT(error_of_starting(), HasSubstr("Expected --report to name a folder"));
  config_ = good;
  config_.report = config_.log_json;
  EXPECT_THAT(error_of_starting(), HasSubstr("Expected --report to differ"));
  config_ = good;
  config_.log_interval = 0;
  EXPECT_THAT(error_of_starting(), HasSubstr("Expected --log-interval of at least 1"));
  config_ = good;
  const FileSizeLimit limit(0);
  EXPECT_THAT(error_of_starting(), HasSubstr("File too large"));
}

TEST_F(RunLogFiles, LaterWriteErrorsGiveOneWarningEach) {
  std::FILE* output = std::tmpfile();
  testing::internal::CaptureStderr();
  {
    RunLog log(config_, short_description(), std::make_unique<Terminal>(output));
    log.step(short_step(1));
    const FileSizeLimit limit(1500);
    for (int64_t i = 2; i <= 12; ++i) log.step(short_step(i));
    log.finish();
  }
  const auto warnings = lines_of(testing::internal::GetCapturedStderr());
  ASSERT_EQ(warnings.size(), 3u);
  for (const auto& line : warnings) {
    EXPECT_THAT(line, HasSubstr("warning: cannot write what --"));
    EXPECT_THAT(line, HasSubstr("File too large"));
  }
  // The files are complete up to the error, the report of the start included.
  for (const auto& record : read_json_log(config_.log_json).steps) EXPECT_LE(record.iteration, 12);
  EXPECT_TRUE(text_of(config_.log_json).ends_with("}\n"));
  EXPECT_THAT(text_of(config_.report), HasSubstr("</html>"));
  std::fclose(output);
}

}  // namespace
}  // namespace megatron
