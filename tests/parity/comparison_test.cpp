#include "megatron/parity/comparison.h"

#include <cmath>
#include <gmock/gmock.h>

#include <gtest/gtest.h>

namespace megatron {
namespace {

using testing::HasSubstr;

TEST(Comparison, HoldsUpToTheBoundAndNotBeyond) {
  Comparison comparison;
  comparison.record(ParityKind::step_loss, "step_loss[0]", 0.9e-5);
  EXPECT_TRUE(comparison.holds(1.0));
  comparison.record(ParityKind::step_loss, "step_loss[1]", 1.1e-5);
  EXPECT_FALSE(comparison.holds(1.0));
  EXPECT_TRUE(comparison.holds(1.2));
  EXPECT_FALSE(comparison.holds(0.1));
}

TEST(Comparison, KeepsTheLargestOfSeveralRecords) {
  Comparison comparison;
  comparison.record(ParityKind::gradient, "a.weight", 3e-5);
  comparison.record(ParityKind::gradient, "a.weight", 1e-9);
  EXPECT_FALSE(comparison.holds(1.0));
  EXPECT_EQ(comparison.to_json(1.0)["kinds"]["gradient"]["count"], 1);
}

TEST(Comparison, NaNNeverHolds) {
  Comparison comparison;
  comparison.record(ParityKind::logits, "logits", std::nan(""));
  comparison.record(ParityKind::logits, "logits", 0.0);
  EXPECT_FALSE(comparison.holds(1e9));
}

TEST(Comparison, SaysWhatTheCaseDoesNotHold) {
  Comparison comparison;
  comparison.record(ParityKind::step_loss, "step_loss[0]", 0);
  EXPECT_TRUE(comparison.contains(ParityKind::step_loss));
  EXPECT_FALSE(comparison.contains(ParityKind::logits));
  comparison.note_absent("logits");
  EXPECT_THAT(comparison.table(1.0), HasSubstr("not in the case: logits"));
  EXPECT_EQ(comparison.to_json(1.0)["not_in_the_case"], nlohmann::json({"logits"}));
}

TEST(Comparison, NamesTheTensorThatFails) {
  Comparison comparison;
  comparison.record(ParityKind::gradient, "decoder.final_layernorm.weight", 1.0);
  EXPECT_THAT(comparison.table(1.0),
              HasSubstr("FAILED gradient of decoder.final_layernorm.weight"));
  EXPECT_EQ(comparison.to_json(1.0)["failures"][0]["name"], "decoder.final_layernorm.weight");
  EXPECT_EQ(comparison.to_json(1.0)["passed"], false);
}

}  // namespace
}  // namespace megatron
