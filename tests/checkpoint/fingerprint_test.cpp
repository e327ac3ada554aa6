#include "megatron/checkpoint/fingerprint.h"

#include <gmock/gmock.h>

#include "tests/checkpoint/checkpoint_fixture.h"

namespace megatron {
namespace {

using ::testing::HasSubstr;

Fingerprint example_fingerprint() {
  auto result = Fingerprint::of_this_process();
  result.tensor_model_parallel_size = 2;
  result.world_size = 2;
  result.backend = "gloo";
  result.device = "cpu";
  return result;
}

TEST(FingerprintTest, DescribesThisProcess) {
  EXPECT_THAT(Fingerprint::of_this_process().libtorch, HasSubstr("2."));
  EXPECT_FALSE(Fingerprint::of_this_process().cpu_capability.empty());
}

TEST(FingerprintTest, SurvivesAJsonRoundTrip) {
  const auto copy =
      fingerprint_from_json(nlohmann::json::parse(to_json(example_fingerprint()).dump()));
  EXPECT_EQ(explain_difference(example_fingerprint(), copy), std::nullopt);
}

TEST(FingerprintTest, ListsDifferencesOnOneLine) {
  auto other = example_fingerprint();
  other.tensor_model_parallel_size = 1;
  other.backend = "threads";
  const auto line = explain_difference(example_fingerprint(), other);
  ASSERT_TRUE(line);
  EXPECT_THAT(*line, HasSubstr("not bit-identical"));
  EXPECT_THAT(*line,
              HasSubstr("tensor_model_parallel_size was 2, is 1; backend was gloo, is threads"));
  EXPECT_EQ(line->find('\n'), std::string::npos);
}

TEST(FingerprintTest, ComparesEveryField) {
  const auto names = to_json(example_fingerprint());
  for (const auto& [name, value] : names.items()) {
    auto changed = names;
    if (value.is_string()) changed[name] = "other";
    if (value.is_number()) changed[name] = 77;
    if (value.is_boolean()) changed[name] = !value.get<bool>();
    const auto line = explain_difference(example_fingerprint(), fingerprint_from_json(changed));
    ASSERT_TRUE(line) << name;
    EXPECT_THAT(*line, HasSubstr(name + " was "));
  }
}

TEST(FingerprintTest, MissingFieldIsNamed) {
  auto json = to_json(example_fingerprint());
  json.erase("backend");
  EXPECT_THAT(error_of([&] { fingerprint_from_json(json); }), HasSubstr("'backend'"));
  EXPECT_THAT(error_of([&] { fingerprint_from_json("x"); }), HasSubstr("got none"));
}

TEST(FingerprintTest, DescribesTheLayout) {
  EXPECT_EQ(describe_layout(example_fingerprint()),
            "TP=2 x PP=1 x CP=1 x DP=1, 2 ranks (gloo), 1 thread each");
}

}  // namespace
}  // namespace megatron
