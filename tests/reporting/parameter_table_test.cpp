// Text blocks at the start and end of a log.
#include "megatron/reporting/parameter_table.h"

#include <gmock/gmock.h>

#include "megatron/reporting/terminal.h"

#include "tests/reporting/log_test_tools.h"

namespace megatron {
namespace {

using testing::ElementsAre;

TEST(ParameterTable, ColumnsFollowTheWidth) {
  const NamedValues pairs = {{"num-layers", "4"},
                             {"hidden-size", "256"},
                             {"seed", "42"},
                             {"lr", "0.001"},
                             {"bf16", "true"}};
  EXPECT_THAT(parameter_columns(pairs, 100),
              ElementsAre("  num-layers   4      seed  42       bf16  true",
                          "  hidden-size  256    lr    0.001"));
  EXPECT_THAT(parameter_columns(pairs, 45),
              ElementsAre("  num-layers   4      lr    0.001", "  hidden-size  256    bf16  true",
                          "  seed         42"));
  EXPECT_THAT(parameter_columns(pairs, 20),
              ElementsAre("  num-layers   4", "  hidden-size  256", "  seed         42",
                          "  lr           0.001", "  bf16         true"));
  EXPECT_TRUE(parameter_columns({}, 80).empty());
}

TEST(ParameterTable, LinesFitAndLongValuesGetTheirOwnLine) {
  NamedValues pairs = {{"data-path", std::string(100, 'x')}};
  for (int i = 0; i < 23; ++i)
    pairs.emplace_back("option-" + std::to_string(i), std::to_string(i * i));
  for (const int width : {60, 80, 100, 200}) {
    const auto lines = parameter_columns(pairs, width);
    size_t seen = 0;
    for (size_t i = 0; i + 1 < lines.size(); ++i) {
      EXPECT_LE(display_width(lines[i]), width);
      EXPECT_NE(lines[i].back(), ' ');
      for (size_t at = 0; (at = lines[i].find("option-", at)) != std::string::npos; ++at) ++seen;
    }
    EXPECT_EQ(seen, 23u);
  }
  EXPECT_EQ(parameter_columns(pairs, 80).back(), "  data-path  " + std::string(100, 'x'));
}

TEST(ParameterTable, NoTextCanBreakALine) {
  const auto lines = parameter_columns({{"prompt", "a\nb\x1b[31m"}, {"empty", ""}}, 80);
  EXPECT_THAT(lines, ElementsAre("  prompt  a\\x0ab\\x1b[31m    empty  (none)"));
}

TEST(ParameterTable, HeaderShowsTheRun) {
  auto description = example_description();
  EXPECT_THAT(run_header(description, 80),
              ElementsAre("model    4 layers x 256, 4.2M parameters",
                          "layout   TP=2 x PP=2 x DP=1, 4 processes (gloo), 1 thread each",
                          "steps    1 to 600", "stages   stage 0: layers 0-1, 2.1M parameters",
                          "         stage 1: layers 2-3, 2.1M parameters",
                          "options that differ from their defaults:",
                          "  num-layers  4    hidden-size  256    seed  42"));
  description.gemm_peak_tflops = 0.1234;
  EXPECT_EQ(run_header(description, 80)[5],
            "peak     0.123 TFLOP/s in matrix products, measured at the start, all ranks together");
  description.gemm_peak_tflops = 0;
  description.first_iteration = 600;
  description.settings.clear();
  const auto lines = run_header(description, 80);
  EXPECT_EQ(lines[2], "steps    none left: 600 of 600 are done");
  EXPECT_EQ(lines.back(), "options  all at their defaults");
}

TEST(ParameterTable, BoxAlignsItsRows) {
  const RunSummary summary{"bits per byte",
                           {{"this model", "1.95"}, {"unigram", "2.35"}, {"naïve", "8"}}};
  EXPECT_THAT(boxed(summary, false),
              ElementsAre("+- bits per byte --+", "| this model  1.95 |", "| unigram     2.35 |",
                          "| naïve       8    |", "+------------------+"));
  EXPECT_THAT(
      boxed({"a long title and nothing else", {}}, true),
      ElementsAre("┌─ a long title and nothing else ┐", "└────────────────────────────────┘"));
  for (const bool unicode : {false, true}) {
    const auto lines = boxed(summary, unicode);
    for (const auto& line : lines) EXPECT_EQ(display_width(line), display_width(lines[0])) << line;
  }
}

}  // namespace
}  // namespace megatron
