// Keys of a config.json: types, defaults, refusals.
#include "megatron/convert/hf_config.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(HfConfig, MissingAndNullTakeTheDefault) {
  HfConfig hf({{"a", nullptr}, {"b", 3}}, "config.json");
  int64_t a = 0, b = 0, c = 0;
  hf.field("a", a, 7);
  hf.field("b", b, 7);
  hf.field("c", c, 7);
  EXPECT_EQ(a, 7);
  EXPECT_EQ(b, 3);
  EXPECT_EQ(c, 7);
  EXPECT_NO_THROW(hf.check_all_read("test"));
}

TEST(HfConfig, ValueOfAnotherTypeIsNamed) {
  HfConfig hf({{"hidden_size", "64"}}, "folder/config.json");
  int64_t size = 0;
  EXPECT_THAT([&] { hf.field("hidden_size", size, 0); },
              ThrowsMessage<Error>(testing::AllOf(HasSubstr("'hidden_size'"), HasSubstr("\"64\""),
                                                  HasSubstr("folder/config.json"))));
}

TEST(HfConfig, RequiredKeyIsNamed) {
  HfConfig hf(json::object(), "config.json");
  int64_t size = 0;
  EXPECT_THAT([&] { hf.required("hidden_size", size); },
              ThrowsMessage<Error>(HasSubstr("'hidden_size'")));
}

TEST(HfConfig, OnlyOneValueWorks) {
  HfConfig hf({{"clip_qkv", 8.0}, {"other", nullptr}}, "config.json");
  hf.only("other", false, "it is not supported");
  EXPECT_THAT([&] { hf.only("clip_qkv", nullptr, "clipping is not supported"); },
              ThrowsMessage<Error>(HasSubstr("clipping is not supported")));
}

TEST(HfConfig, KeysThatNobodyReadAreAnError) {
  HfConfig hf({{"hidden_size", 64}, {"mystery", true}, {"enigma", 0}, {"use_cache", true}},
              "config.json");
  int64_t size = 0;
  hf.field("hidden_size", size, 0);
  EXPECT_THAT([&] { hf.check_all_read("llama"); },
              ThrowsMessage<Error>(
                  testing::AllOf(HasSubstr("'mystery' (true)"), HasSubstr("'enigma' (0)"))));
}

TEST(HfConfig, OptionsThatAreOffAreNotedOnly) {
  HfConfig hf({{"use_mrope", false}, {"sliding_window", nullptr}, {"use_cache", true}},
              "config.json");
  EXPECT_THAT(hf.check_all_read("llama"),
              testing::UnorderedElementsAre("'use_mrope' (false)", "'sliding_window' (null)"));
}

TEST(HfConfig, RotaryParametersOfBothSpellings) {
  HfConfig v4({{"rope_theta", 5e5}, {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}}, "v4");
  HfConfig v5(
      {{"rope_parameters", {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 5e5}}}}, "v5");
  EXPECT_EQ(v4.take_rope(10000), v5.take_rope(10000));
  HfConfig none(json::object(), "none");
  EXPECT_EQ(none.take_rope(10000), (json{{"rope_type", "default"}, {"rope_theta", 10000.0}}));
}

TEST(HfConfig, RotaryParametersByTypeOfLayer) {
  HfConfig hf({{"rope_parameters",
                {{"full_attention", {{"rope_type", "default"}, {"rope_theta", 1e6}}},
                 {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 1e4}}}}}},
              "config.json");
  EXPECT_EQ(hf.take_rope(1, "full_attention")["rope_theta"], 1e6);
  EXPECT_EQ(hf.take_rope(1, "sliding_attention")["rope_theta"], 1e4);
}

TEST(HfConfig, SizesHaveABound) {
  HfConfig hf({{"hidden_size", int64_t{1} << 40}, {"layers", 5000}}, "config.json");
  int64_t size = 0;
  EXPECT_THAT([&] { hf.required("hidden_size", size); },
              ThrowsMessage<Error>(HasSubstr("between 1 and 16777216, but got 1099511627776")));
  EXPECT_THAT([&] { hf.required("layers", size, 4096); },
              ThrowsMessage<Error>(HasSubstr("between 1 and 4096, but got 5000")));
}

}  // namespace
}  // namespace megatron
