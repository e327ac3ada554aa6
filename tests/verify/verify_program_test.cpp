// `megatron verify-layout` as a user runs it.
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/program.h"
#include "tests/temporary_folder.h"

namespace megatron {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

TEST(VerifyLayout, PassesAndPrintsATable) {
  const ProgramResult result = run_program("verify-layout --layouts tp2+sp,zero1");
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output, AllOf(HasSubstr("model  4 layers, hidden 64, 4 heads, 2 query groups"),
                                   HasSubstr("layout  ranks"), HasSubstr("\ntp2+sp      2  "),
                                   HasSubstr("\nzero1       2  ")));
  EXPECT_THAT(last_line(result.output),
              HasSubstr("PASS: 2 layouts compute what one rank computes"));
}

TEST(VerifyLayout, FailsBeyondTheBoundAndNamesTensorAndLayout) {
  const ProgramResult result = run_program("verify-layout --layouts cp2 --bound 1e-30");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, AllOf(HasSubstr("FAIL"), HasSubstr(", step ")));
  EXPECT_THAT(last_line(result.errors), AllOf(HasSubstr("error: Expected every difference"),
                                              HasSubstr("in layout cp2 the ")));
}

TEST(VerifyLayout, WritesJson) {
  const TemporaryFolder folder;
  const std::string file = folder / "verify.json";
  const ProgramResult result = run_program("verify-layout --layouts pp2+vp2 --json " + file);
  EXPECT_EQ(result.status, 0) << result.errors;
  std::ifstream stream(file);
  const nlohmann::json json = nlohmann::json::parse(stream);
  EXPECT_TRUE(json["holds"].get<bool>());
  EXPECT_EQ(json["layouts"][0]["layout"], "pp2+vp2");
  EXPECT_EQ(json["layouts"][0]["ranks"], 2);
  EXPECT_LE(json["layouts"][0]["differences"]["gradient"]["largest"].get<double>(), 1e-8);
  // Standard output then holds nothing else.
  const ProgramResult piped = run_program("verify-layout --layouts dp2 --json -");
  EXPECT_TRUE(nlohmann::json::parse(piped.output)["holds"].get<bool>());
}

// The file of a training run: its layout is verified first.
TEST(VerifyLayout, TakesTheFileOfATrainingRun) {
  const TemporaryFolder folder;
  const std::string file = folder / "run.yaml";
  std::ofstream(file) << "num_layers: 8\nhidden_size: 512\nnum_attention_heads: 8\n"
                         "seq_length: 1024\nmicro_batch_size: 4\nglobal_batch_size: 64\n"
                         "train_iters: 1000\nlr: 3e-4\nbf16: true\ndata_path: /data/text\n"
                         "vocab_size: 50257\nsave: /checkpoints\n"
                         "tensor_model_parallel_size: 2\nsequence_parallel: true\n"
                         "pipeline_model_parallel_size: 2\nuse_distributed_optimizer: true\n";
  const ProgramResult result = run_program("verify-layout --shrink --layouts tp2 --config " + file);
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output, HasSubstr("4 layers, hidden 64, 4 heads"));
  const ProgramResult own = run_program("verify-layout --shrink --config " + file);
  EXPECT_EQ(own.status, 0) << own.errors;
  EXPECT_THAT(own.output, HasSubstr("\ntp2+sp+pp2+zero1+dp2 "));
}

TEST(VerifyLayout, RefusesUnknownLayoutsAndThoseThatDoNotFit) {
  const ProgramResult unknown = run_program("verify-layout --layouts tp2+seqp");
  EXPECT_EQ(unknown.status, 1);
  EXPECT_THAT(last_line(unknown.errors), HasSubstr("the nearest is sp"));
  const ProgramResult large = run_program("verify-layout --layouts tp2,tp3");
  EXPECT_EQ(large.status, 1);
  EXPECT_EQ(large.output, "");  // said before anything runs
  EXPECT_THAT(last_line(large.errors),
              AllOf(HasSubstr("layouts that fit the model, but tp3 does not"),
                    HasSubstr("--num-attention-heads divisible by")));
  EXPECT_THAT(last_line(run_program("verify-layout --bound 0").errors),
              HasSubstr("--bound above 0"));
  EXPECT_THAT(last_line(run_program("verify-layout --layouts ''").errors), HasSubstr("got ''"));
}

TEST(VerifyLayout, DrawsModelsAndLayouts) {
  const ProgramResult result = run_program("verify-layout --random 2 --seed 5 --json -");
  EXPECT_EQ(result.status, 0) << result.errors;
  const nlohmann::json json = nlohmann::json::parse(result.output);
  ASSERT_EQ(json["draws"].size(), 2u);
  const std::string command = json["draws"][1]["command"];
  EXPECT_THAT(command, ContainsRegex("^megatron verify-layout --num-layers .* --layouts "));
  // The command repeats the draw.
  const ProgramResult again =
      run_program(command.substr(std::string("megatron ").size()) + " --json -");
  EXPECT_EQ(again.status, 0) << again.errors;
  EXPECT_EQ(nlohmann::json::parse(again.output)["layouts"][0]["differences"],
            json["draws"][1]["differences"]);
  EXPECT_THAT(last_line(run_program("verify-layout --random 2 --num-layers 3").errors),
              HasSubstr("but got 'num_layers' too"));
}

// The architecture of a Hugging Face folder: Gemma 3 with its windows and caps, and long rotary factors.
TEST(VerifyLayout, TakesTheModelOfAFolder) {
  const std::string folders = std::string(TEST_DATA_DIR) + "/hf/";
  const ProgramResult result =
      run_program("verify-layout --layouts tp2+sp,pp2 --load " + folders + "gemma3");
  EXPECT_EQ(result.status, 0) << result.output << result.errors;
  EXPECT_THAT(result.output, AllOf(HasSubstr("gated openai_gelu MLP"), HasSubstr("sequence 32"),
                                   HasSubstr("PASS: 2 layouts")));
  const ProgramResult shrunk =
      run_program("verify-layout --shrink --layouts tp2 --load " + folders + "phi3_longrope");
  EXPECT_EQ(shrunk.status, 0) << shrunk.output << shrunk.errors;
  // Options that contradict the folder are refused, as in training.
  const ProgramResult other =
      run_program("verify-layout --num-layers 7 --layouts tp2 --load " + folders + "gemma3");
  EXPECT_EQ(other.status, 2);
  EXPECT_THAT(other.errors, HasSubstr("--num-layers 7 instead of"));
  const ProgramResult none = run_program("verify-layout --layouts tp2 --load no/such/folder");
  EXPECT_EQ(none.status, 1);
  EXPECT_THAT(none.errors, HasSubstr("Expected --load to name a Hugging Face folder"));
}

}  // namespace
}  // namespace megatron
