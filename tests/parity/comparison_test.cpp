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

TEST(Comparison, PrintsNotes) {
  Comparison comparison;
  comparison.record(ParityKind::step_loss, "step_loss[0]", 0);
  EXPECT_TRUE(comparison.contains(ParityKind::step_loss));
  EXPECT_FALSE(comparison.contains(ParityKind::logits));
  comparison.note("not in the case: logits");
  EXPECT_THAT(comparison.table(1.0), HasSubstr("not in the case: logits\n"));
  EXPECT_EQ(comparison.to_json(1.0)["notes"], nlohmann::json({"not in the case: logits"}));
}

TEST(Comparison, WiderBoundsApplyToTheirKindsAndTensorsOnly) {
  Comparison comparison({{"noise", {{ParityKind::weight_after3, 1e-3}}, "qkv.bias"}});
  comparison.record(ParityKind::weight_after3, "layers.0.linear_qkv.bias (sum)", 0.9e-3);
  EXPECT_TRUE(comparison.holds(1.0));
  EXPECT_EQ(comparison.beyond_standard_bounds().size(), 1);
  EXPECT_THAT(comparison.table(1.0), HasSubstr("wider bounds of qkv.bias: noise\n"));
  EXPECT_EQ(comparison.to_json(1.0)["kinds"]["weight_after3"]["bound"], 1e-3);
  comparison.record(ParityKind::gradient, "layers.0.linear_qkv.bias", 0.9e-3);
  EXPECT_FALSE(comparison.holds(1.0));
  Comparison elsewhere({{"noise", {{ParityKind::weight_after3, 1e-3}}, "qkv.bias"}});
  elsewhere.record(ParityKind::weight_after3, "layers.0.linear_qkv.weight", 0.9e-3);
  EXPECT_FALSE(elsewhere.holds(1.0));
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
