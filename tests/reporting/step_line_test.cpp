// The step line: its text, alignment over a run, and extreme numbers.
#include "megatron/reporting/step_line.h"

#include <cmath>
#include <limits>

#include "megatron/reporting/machine.h"

#include "tests/reporting/log_test_tools.h"

namespace megatron {
namespace {

TEST(StepLine, LabelsItsColumns) {
  StepLine line(600);
  StepRecord record = example_step(120);
  record.loss = 4.51234;
  record.grad_norm = 1.2341;
  record.learning_rate = 3e-4;
  record.step_ms = 85.31;
  EXPECT_EQ(
      line.format(record, 85.4),
      "step 120/600 | loss  4.5123 | grad norm  1.234 | lr 3.000e-04 |   85.3 ms | 12.0k tok/s | "
      "  0.15 TFLOP/s (38% of peak) |   812 MiB |    0:41 left");
}

TEST(StepLine, LinesOfARunAreAligned) {
  StepLine line(12000);
  std::vector<StepRecord> records = {example_step(1), example_step(99), example_step(12000)};
  records.push_back(example_step(2));
  records.back().loss = std::nan("");
  records.back().grad_norm = std::numeric_limits<double>::infinity();
  records.push_back(example_step(3));
  records.back().loss = 123456.789;
  records.back().grad_norm = 3.2e9;
  records.back().step_ms = 123456;
  records.back().tokens_per_s = 1.25e6;
  records.back().memory_mib = 204800;
  records.push_back(example_step(4));
  records.back().gemm_peak_fraction = 0;  // unknown for this step
  records.back().model_tflops = 0.0042;
  const std::string first = line.format(example_step(1), 85);
  for (const auto& record : records) {
    const auto text = line.format(record, 85);
    EXPECT_EQ(text.size(), first.size()) << text;
    for (size_t i = 0; i < first.size(); ++i) {
      EXPECT_EQ(text[i] == '|', first[i] == '|') << text << "\n" << first;
    }
  }
  EXPECT_NE(line.format(records[3], 85).find("loss     nan | grad norm    inf"), std::string::npos);
  EXPECT_NE(line.format(records[4], 85).find("|  123.5 s  | 1.25M tok/s"), std::string::npos);
  EXPECT_NE(line.format(records[5], 85).find("0.0042 TFLOP/s "), std::string::npos);
}

TEST(StepLine, MtpLossesFollowTheLoss) {
  StepMeans means;
  StepRecord record = example_step(1);
  record.loss = 2.5;
  record.mtp = {{.loss = 3}, {.loss = 4.5}};
  means.add(record);
  record.mtp = {{.loss = 4}, {.loss = 5.5}};
  means.add(record);
  EXPECT_NE(StepLine(10).format(means.take(), 80).find("loss  2.5000 | mtp  3.5000  5.0000 | grad"),
            std::string::npos);
}

TEST(StepLine, OmitsAFractionAboveThePeak) {
  EXPECT_EQ(share_of_peak(1, 4), 0.25);
  EXPECT_EQ(share_of_peak(4, 4), 1);
  EXPECT_EQ(share_of_peak(4.1, 4), 0);
  EXPECT_EQ(share_of_peak(1, 0), 0);
  // No mean if one of the steps has no value.
  StepMeans means;
  StepRecord record = example_step(1);
  means.add(record);
  record.gemm_peak_fraction = 0;
  means.add(record);
  EXPECT_EQ(means.take().gemm_peak_fraction, 0);
  means.add(example_step(2));
  means.add(example_step(3));
  EXPECT_NEAR(means.take().gemm_peak_fraction, 0.38, 1e-12);
}

TEST(StepLine, OmitsColumnsWithoutMeasurements) {
  StepLine line(10);
  StepRecord record = example_step(1);
  record.model_tflops = record.gemm_peak_fraction = record.memory_mib = 0;
  const auto text = line.format(record, 80);
  EXPECT_EQ(text.find("TFLOP"), std::string::npos);
  EXPECT_EQ(text.find("MiB"), std::string::npos);
  EXPECT_EQ(text.substr(0, 9), "step  1/1");
}

TEST(StepLine, OmitsTheLeastImportantColumnsOnANarrowTerminal) {
  StepLine line(600);
  for (int width = 150; width >= 30; --width) {
    const auto text = line.format(example_step(120), 85, width);
    EXPECT_LE(text.size(), static_cast<size_t>(width));
    EXPECT_NE(text.find("step 120/600 | loss"), std::string::npos);
  }
  EXPECT_NE(line.format(example_step(120), 85, 80).find("ms"), std::string::npos);
  EXPECT_EQ(line.format(example_step(120), 85, 80).find("MiB"), std::string::npos);
  // Step and loss are always shown.
  EXPECT_NE(line.format(example_step(120), 85, 5).find("loss"), std::string::npos);
}

TEST(EvaluationLine, ShowsLossAndPerplexity) {
  EXPECT_EQ(evaluation_line({120, "validation", 2.0, 1.25}, 600),
            "step 120/600 | validation loss 2.0000 | perplexity 7.389 | 1.2500 bits per byte");
  EXPECT_EQ(evaluation_line({5, "test", 2.0, std::nullopt}, 600),
            "step   5/600 | test loss 2.0000 | perplexity 7.389");
}

TEST(DurationText, ShowsTwoUnits) {
  EXPECT_EQ(duration_text(0), "0:00");
  EXPECT_EQ(duration_text(41.4), "0:41");
  EXPECT_EQ(duration_text(59.6), "1:00");
  EXPECT_EQ(duration_text(3725), "1:02:05");
  EXPECT_EQ(duration_text(36120), "10h02m");
  EXPECT_EQ(duration_text(1047600), "12d03h");
  EXPECT_EQ(duration_text(-1), "0:00");
  EXPECT_EQ(duration_text(std::nan("")), "?");
}

TEST(FittedNumber, KeepsItsWidth) {
  EXPECT_EQ(fitted_number(1.23456, 7, 4), " 1.2346");
  EXPECT_EQ(fitted_number(123.456, 6, 3), "123.46");
  EXPECT_EQ(fitted_number(99999.96, 7, 1), " 100000");
  EXPECT_EQ(fitted_number(1234567, 6, 3), " 1e+06");
  EXPECT_EQ(fitted_number(1e300, 7, 4), " 1e+300");
  EXPECT_EQ(fitted_number(-std::numeric_limits<double>::infinity(), 6, 3), "  -inf");
}

TEST(SmoothedStepTime, IgnoresTheFirstStepAndFollowsChanges) {
  SmoothedStepTime time;
  time.add(5000);
  EXPECT_DOUBLE_EQ(time.milliseconds(), 5000);
  time.add(100);
  EXPECT_DOUBLE_EQ(time.milliseconds(), 100);
  time.add(200);
  EXPECT_DOUBLE_EQ(time.milliseconds(), 150);
  time.add(std::nan(""));
  EXPECT_DOUBLE_EQ(time.milliseconds(), 150);
  for (int i = 0; i < 200; ++i) time.add(40);
  EXPECT_NEAR(time.milliseconds(), 40, 0.1);
}

}  // namespace
}  // namespace megatron
