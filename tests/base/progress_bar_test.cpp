// The progress bar with a fake clock, writing to a file instead of a terminal or pipe.
#include "megatron/base/progress_bar.h"

#include <algorithm>
#include <gmock/gmock.h>

#include <gtest/gtest.h>

namespace megatron {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ProgressBarTest : public ::testing::Test {
 protected:
  ~ProgressBarTest() override { std::fclose(stream_); }

  ProgressBarOptions options(bool terminal) {
    ProgressBarOptions options;
    options.label = "work";
    options.unit = "B";
    options.total = 1000;
    options.stream = stream_;
    options.terminal = terminal;
    options.width = 100;
    options.seconds_elapsed = [this] { return now_; };
    return options;
  }

  std::string written() {
    std::fflush(stream_);
    std::rewind(stream_);
    std::string text;
    for (int c = std::fgetc(stream_); c != EOF; c = std::fgetc(stream_)) {
      text += static_cast<char>(c);
    }
    return text;
  }

  std::FILE* stream_ = std::tmpfile();
  double now_ = 100;
};

TEST_F(ProgressBarTest, RedrawsOnATerminal) {
  {
    ProgressBar bar(options(true));
    now_ += 1;
    bar.update(250, "detail");
    now_ += 0.01;
    bar.update(260, "too soon");
    now_ += 3;
    bar.finish();
  }
  const std::string text = written();
  EXPECT_THAT(text, HasSubstr(" 25% 250/1.00kB  250B/s  3s left  detail"));
  EXPECT_THAT(text, HasSubstr("█"));
  EXPECT_THAT(text, HasSubstr("\r\x1b[2K"));
  EXPECT_THAT(text, Not(HasSubstr("too soon")));
  EXPECT_THAT(text, HasSubstr("in 4s"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_EQ(text.back(), '\n');
}

TEST_F(ProgressBarTest, StaysInsideTheTerminal) {
  auto narrow = options(true);
  narrow.width = 20;
  {
    ProgressBar bar(narrow);
    now_ += 1;
    bar.update(250, std::string(200, 'x'));
  }
  EXPECT_LE(written().size(), 20u);
}

TEST_F(ProgressBarTest, PrintsLinesWithoutATerminal) {
  {
    ProgressBar bar(options(false));
    for (int i = 1; i <= 100; ++i) {
      now_ += 0.25;
      bar.update(10 * i);
    }
    bar.finish("done");
  }
  const std::string text = written();
  EXPECT_THAT(text, Not(HasSubstr("\r")));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);  // after 10 and 20 seconds, and the end
  EXPECT_THAT(text, HasSubstr("work   40% 400/1.00kB  40B/s  15s left\n"));
  EXPECT_THAT(text, HasSubstr("work  100% 1.00k/1.00kB  40B/s  in 25s  done\n"));
}

TEST_F(ProgressBarTest, PrintsLinesAboveTheBar) {
  ProgressBar bar(options(true));
  now_ += 1;
  bar.update(100);
  bar.print_line("a note");
  EXPECT_THAT(written(), HasSubstr("\r\x1b[2Ka note\nwork"));
}

TEST_F(ProgressBarTest, WorksWithoutATotal) {
  auto unknown = options(false);
  unknown.total = 0;
  ProgressBar bar(unknown);
  now_ += 20;
  bar.update(5e6);
  EXPECT_EQ(written(), "work  5.00MB  250kB/s\n");
}

TEST(FormatDuration, UsesTwoUnits) {
  EXPECT_EQ(format_duration(0.4), "0s");
  EXPECT_EQ(format_duration(59.6), "1m00s");
  EXPECT_EQ(format_duration(125), "2m05s");
  EXPECT_EQ(format_duration(7260), "2h01m");
  EXPECT_EQ(format_duration(200000), "2d07h");
  EXPECT_EQ(format_duration(-1), "?");
}

TEST(FormatQuantity, KeepsThreeDigits) {
  EXPECT_EQ(format_quantity(0), "0");
  EXPECT_EQ(format_quantity(950), "950");
  EXPECT_EQ(format_quantity(0.5), "0.50");
  EXPECT_EQ(format_quantity(999.7), "1.00k");
  EXPECT_EQ(format_quantity(12345), "12.3k");
  EXPECT_EQ(format_quantity(4152750), "4.15M");
  EXPECT_EQ(format_quantity(9.996e9), "10.0G");
  EXPECT_EQ(format_quantity(9.9999e11), "1.00T");
}

}  // namespace
}  // namespace megatron
