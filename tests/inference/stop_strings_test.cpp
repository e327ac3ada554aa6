#include "megatron/inference/stop_strings.h"

#include <gtest/gtest.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

TEST(StopStrings, EndsTheTextBeforeAStringThatSpansTokens) {
  StopStrings stops({"END", "\n\n"});
  EXPECT_EQ(stops.feed("one E").text, "one ");
  EXPECT_EQ(stops.feed("N").text, "");
  const auto fed = stops.feed("Done");
  EXPECT_TRUE(fed.stopped);
  EXPECT_EQ(fed.text, "");
  EXPECT_EQ(stops.flush(), "");
}

TEST(StopStrings, HeldTextComesBackWhereTheStringDoesNotGoOn) {
  StopStrings stops({"END"});
  EXPECT_EQ(stops.feed("EN").text, "");
  EXPECT_EQ(stops.feed("EEN").text, "ENE");
  EXPECT_EQ(stops.flush(), "EN");
  EXPECT_EQ(stops.flush(), "");
}

TEST(StopStrings, TheFirstStringInTheTextCounts) {
  StopStrings stops({"later", "b"});
  const auto fed = stops.feed("ab later");
  EXPECT_TRUE(fed.stopped);
  EXPECT_EQ(fed.text, "a");
}

TEST(StopStrings, TextDoesNotDependOnTheTokens) {
  const std::string text = "xxabxabcab xabababc!";
  for (size_t size = 1; size < 6; ++size) {
    StopStrings stops({"ababc"});
    std::string out;
    bool stopped = false;
    for (size_t i = 0; i < text.size() && !stopped; i += size) {
      const auto fed = stops.feed(std::string_view(text).substr(i, size));
      out += fed.text;
      stopped = fed.stopped;
    }
    EXPECT_TRUE(stopped);
    EXPECT_EQ(out, "xxabxabcab xab") << size;
  }
}

TEST(StopStrings, WithoutStringsEveryTextPasses) {
  StopStrings stops({});
  EXPECT_EQ(stops.feed("all").text, "all");
  EXPECT_THROW(StopStrings({""}), Error);
}

}  // namespace
}  // namespace megatron
