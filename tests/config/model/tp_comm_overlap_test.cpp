#include "megatron/config/model/tp_comm_overlap.h"

#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/base/problems.h"
#include "megatron/config/model/model_checks.h"

#include "tests/temporary_folder.h"

namespace megatron {
namespace {

using testing::HasSubstr;
using enum TpOverlapMethod;

class TpCommOverlap : public testing::Test {
 protected:
  // The path of a file with this text.
  std::string file(const std::string& text) {
    std::ofstream(path_) << text;
    return path_;
  }
  static std::string error_of(const TpCommOverlapConfig& config) {
    try {
      tp_overlaps(config);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  const TemporaryFolder folder_;
  const std::string path_ = folder_ / "overlap.yaml";
};

TEST_F(TpCommOverlap, DefaultsAreRingsAndPipelinesOfFourPieces) {
  const TpOverlaps overlaps = tp_overlaps({});
  ASSERT_EQ(overlaps.size(), 4u);
  for (const char* linear : {"qkv", "fc1"})
    EXPECT_EQ(overlaps.at(linear), LinearOverlap::of_column_parallel());
  for (const char* linear : {"proj", "fc2"})
    EXPECT_EQ(overlaps.at(linear), LinearOverlap::of_row_parallel());
}

TEST_F(TpCommOverlap, ReadsAFile) {
  const TpOverlaps overlaps = tp_overlaps({.file = file(R"(
qkv_fprop: {method: ring_exchange, num_splits: 2}
qkv_wgrad: {method: bulk}
proj_fprop: {num_splits: 8}
proj_dgrad: {method: none}
fc1_dgrad:
  method: pipeline
  num_splits: 3
)"),
                                           .entries = {}});
  EXPECT_EQ(overlaps.at("qkv"), (LinearOverlap{{ring_exchange, 2}, {bulk, 1}}));
  EXPECT_EQ(overlaps.at("proj"), (LinearOverlap{{pipeline, 8}, {none, 1}}));
  EXPECT_EQ(overlaps.at("fc1"), (LinearOverlap{{ring_exchange, 1}, {pipeline, 3}}));
  EXPECT_EQ(overlaps.at("fc2"), LinearOverlap::of_row_parallel());
}

TEST_F(TpCommOverlap, AMapGivesWhatTheSameFileGives) {
  const TpOverlaps of_file = tp_overlaps(
      {.file = file("fc2_fprop: {method: pipeline, num_splits: 2}\nfc1_dgrad: {method: bulk}\n"),
       .entries = {}});
  const TpOverlaps of_map =
      tp_overlaps({.file = "",
                   .entries = {{"fc2_fprop", {.method = "pipeline", .num_splits = 2}},
                               {"fc1_dgrad", {.method = "bulk", .num_splits = {}}}}});
  EXPECT_EQ(of_file, of_map);
}

TEST_F(TpCommOverlap, RefusesBadFiles) {
  const auto of_text = [&](const std::string& text) {
    return error_of({.file = file(text), .entries = {}});
  };
  EXPECT_THAT(of_text("qkv_fprop: {method: none}\nqkv_fprp: {method: none}\n"),
              testing::AllOf(HasSubstr(path_ + ", line 2"), HasSubstr("got 'qkv_fprp'"),
                             HasSubstr("the nearest is qkv_fprop")));
  EXPECT_THAT(
      of_text("proj_fprop: {}\n"),
      HasSubstr(
          "Expected method or num_splits for proj_fprop in tp_comm_overlap_cfg, but got neither"));
  EXPECT_THAT(of_text(""), HasSubstr("an empty file"));
  EXPECT_THAT(of_text("fc2_wgrad: {method: bulk}\n"), HasSubstr("got 'fc2_wgrad'"));
  EXPECT_THAT(of_text("fc1_fprop: {method: bulk}\n"),
              HasSubstr("Expected method ring_exchange or none for fc1_fprop"));
  EXPECT_THAT(of_text("fc2_fprop: {method: ring_exchange}\n"),
              HasSubstr("Expected method pipeline or none for fc2_fprop"));
  EXPECT_THAT(of_text("fc2_fprop: {methd: pipeline}\n"),
              testing::AllOf(HasSubstr("got 'methd'"), HasSubstr("the nearest is method")));
  EXPECT_THAT(of_text("fc2_fprop: {num_sm: 4}\n"),
              testing::AllOf(HasSubstr("got num_sm"), HasSubstr("leave it out")));
  EXPECT_THAT(of_text("fc2_fprop: {num_splits: many}\n"), HasSubstr("got 'many'"));
  EXPECT_THAT(of_text("fc2_fprop: {num_splits: 0}\n"), HasSubstr("num_splits of at least 1"));
  EXPECT_THAT(of_text("fc1_dgrad: {method: bulk, num_splits: 2}\n"),
              HasSubstr("Expected no num_splits for fc1_dgrad"));
  EXPECT_THAT(of_text("fc1_dgrad: {method: pipeline}\nfc1_wgrad: {method: bulk}\n"),
              HasSubstr("leave fc1_wgrad out"));
  EXPECT_THAT(of_text("fc2_fprop: pipeline\n"), HasSubstr("Expected fc2_fprop: {method: ..."));
  EXPECT_THAT(of_text("fc2_fprop: {}\nfc2_fprop: {}\n"), HasSubstr("got two"));
  EXPECT_THAT(of_text("- fc2_fprop\n"), HasSubstr("Expected entries"));
  EXPECT_THAT(of_text("fc2_fprop: {method: [\n"), HasSubstr("Expected YAML"));
  EXPECT_THAT(error_of({.file = "/nowhere.yaml", .entries = {}}), HasSubstr("/nowhere.yaml"));
  EXPECT_THAT(error_of({.file = file("{}"), .entries = {{"fc2_fprop", {}}}}),
              HasSubstr("got both"));
}

std::string problem_of(const GPTModelConfig& config) {
  Problems problems;
  check_fused_layers(config, problems);
  check_layer_spec(config, problems);
  try {
    problems.throw_if_any();
  } catch (const Error& error) {
    return error.what();
  }
  return "no problem";
}

TEST(FusedLayerChecks, OverlapsOfLayersNeedTpCommOverlapAndFitTheSequence) {
  GPTModelConfig config;
  config.seq_length = 32;
  config.transformer.tensor_model_parallel_size = 2;
  config.tp_comm_overlap_cfg.entries["fc2_fprop"].num_splits = 16;
  EXPECT_THAT(problem_of(config), HasSubstr("Expected tp_comm_overlap with tp_comm_overlap_cfg"));
  config.transformer.tp_comm_overlap = true;
  EXPECT_EQ(problem_of(config), "no problem");
  config.tp_comm_overlap_cfg.entries["fc2_fprop"].num_splits = 17;
  EXPECT_THAT(problem_of(config), HasSubstr("num_splits of at most 16 for fc2"));
  config.tp_comm_overlap_cfg.entries["fc2_fprop"].num_splits = 2;
  config.transformer.num_layers = 2;
  config.transformer.moe.num_moe_experts = 4;
  EXPECT_THAT(problem_of(config), HasSubstr("Expected qkv or proj in tp_comm_overlap_cfg"));
  config.transformer.moe.moe_shared_expert_intermediate_size = 8;
  EXPECT_EQ(problem_of(config), "no problem");
}

TEST(FusedLayerChecks, TheOpFuserNeedsTheTransformerEngineSpec) {
  GPTModelConfig config;
  config.use_transformer_engine_op_fuser = true;
  EXPECT_EQ(problem_of(config), "no problem");
  config.transformer.apply_residual_connection_post_layernorm = true;
  EXPECT_THAT(problem_of(config), HasSubstr("apply_residual_connection_post_layernorm"));
  config.transformer.apply_residual_connection_post_layernorm = false;
  config.transformer.transformer_impl = TransformerImpl::local;
  EXPECT_THAT(problem_of(config), HasSubstr("but got local_layer_spec"));
  config.transformer.transformer_impl = TransformerImpl::transformer_engine;
  config.use_transformer_engine_full_layer_spec = true;
  EXPECT_THAT(problem_of(config), HasSubstr("but got transformer_engine_full_layer_spec"));
  config.restore_modelopt_state = true;
  EXPECT_THAT(problem_of(config), HasSubstr("but got modelopt_transformer_layer_spec"));
}

}  // namespace
}  // namespace megatron
