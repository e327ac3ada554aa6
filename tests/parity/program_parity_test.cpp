// `megatron parity` as a program: ranks as processes, exit statuses, output.
#include <algorithm>
#include <fstream>
#include <gmock/gmock.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "megatron/formats/safetensors_file.h"
#include "megatron/formats/safetensors_writer.h"

#include "tests/program.h"

namespace megatron {
namespace {

using testing::HasSubstr;

std::string case_path(const std::string& name) {
  return TEST_DATA_DIR "/megatron_core/" + name + ".json";
}

class ProcessLayout : public testing::TestWithParam<const char*> {};

TEST_P(ProcessLayout, Gpt2AndLlamaPass) {
  for (const char* name : {"gpt2", "llama"}) {
    const ProgramResult result =
        run_program("parity " + case_path(name) + " --threads 1 " + GetParam());
    EXPECT_EQ(result.status, 0) << result.output << result.errors;
    EXPECT_THAT(result.output, HasSubstr("PASS"));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, ProcessLayout,
    testing::Values("", "--nproc 2 --tensor-model-parallel-size 2",
                    "--nproc 2 --tensor-model-parallel-size 2 --sequence-parallel",
                    "--nproc 2 --pipeline-model-parallel-size 2", "--nproc 2",
                    "--nproc 4 --tensor-model-parallel-size 2 --pipeline-model-parallel-size 2",
                    "--nproc 4 --threads-as-ranks --tensor-model-parallel-size 2"));

class WrongNumber : public testing::Test {
 protected:
  // Writes the case gpt2 with a change of its JSON file.
  std::filesystem::path write(const std::function<void(nlohmann::json&)>& change) {
    folder_ = std::filesystem::path(testing::TempDir()) /
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
    std::filesystem::copy_file(TEST_DATA_DIR "/megatron_core/gpt2.safetensors",
                               folder_ / "gpt2.safetensors",
                               std::filesystem::copy_options::overwrite_existing);
    std::ifstream stream(case_path("gpt2"));
    nlohmann::json json = nlohmann::json::parse(stream);
    change(json);
    std::ofstream(folder_ / "gpt2.json") << json;
    return folder_ / "gpt2.json";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
};

TEST_F(WrongNumber, FailsAndNamesIt) {
  const auto path = write([](nlohmann::json& json) {
    json["weight_after3"]["decoder.final_layernorm.bias"]["l2"] = 0.3;
  });
  const ProgramResult result = run_program("parity " + path.string());
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output,
              HasSubstr("FAILED weight_after3 of decoder.final_layernorm.bias (l2)"));
  EXPECT_THAT(result.errors, HasSubstr("error: "));
}

TEST_F(WrongNumber, StepLossFailsUnlessTheToleranceIsWider) {
  const auto path = write([](nlohmann::json& json) {
    json["step_loss"][1] = json["step_loss"][1].get<double>() + 1e-4;
  });
  const std::string json_file = (folder_ / "result.json").string();
  const ProgramResult result = run_program("parity " + path.string() + " --json " + json_file);
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.output, HasSubstr("FAILED step_loss of step_loss[1]"));
  std::ifstream stream(json_file);
  const nlohmann::json written = nlohmann::json::parse(stream);
  EXPECT_EQ(written["passed"], false);
  EXPECT_EQ(written["kinds"]["step_loss"]["count"], 3);
  EXPECT_EQ(run_program("parity " + path.string() + " --tolerance 20").status, 0);
}

TEST_F(WrongNumber, StepLossStoredOnlyAsATensorFails) {
  const auto path = write([](nlohmann::json& json) { json.erase("step_loss"); });
  const auto tensor_file = folder_ / "gpt2.safetensors";
  const SafetensorsFile right = SafetensorsFile::open(tensor_file);
  std::vector<NamedTensor> tensors;
  for (const std::string& name : right.names()) {
    tensors.push_back({name, right.tensor(name)});
    if (name == "step_loss") tensors.back().data[2] += 1e-3;
  }
  write_safetensors(tensor_file, tensors);
  const ProgramResult result = run_program("parity " + path.string() + " --json -");
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(nlohmann::json::parse(result.output)["failures"][0]["name"], "step_loss[2]");
}

TEST_F(WrongNumber, UnsupportedFieldIsAnErrorThatNamesIt) {
  const auto path =
      write([](nlohmann::json& json) { json["transformer_config"]["moe_latent_size"] = 4; });
  const ProgramResult result = run_program("parity " + path.string());
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.errors, HasSubstr("moe_latent_size"));
}

struct RefusedLayout {
  const char* name;
  const char* flags;  // for gpt2_deep: 4 micro-batches of 2 rows
  const char* advice;
  friend void PrintTo(const RefusedLayout& layout, std::ostream* out) { *out << layout.name; }
};

class RefusedParityLayout : public testing::TestWithParam<RefusedLayout> {};

// The message names no rank, because none has started.
TEST_P(RefusedParityLayout, IsRefusedBeforeRanksStart) {
  const ProgramResult result =
      run_program("parity " + case_path("gpt2_deep") + " --threads 1 " + GetParam().flags);
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.errors, testing::StartsWith("error: Expected "));
  EXPECT_THAT(result.errors, testing::EndsWith(std::string(GetParam().advice) + "\n"));
  EXPECT_EQ(std::ranges::count(result.errors, '\n'), 1) << result.errors;
  EXPECT_EQ(result.output, "");
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, RefusedParityLayout,
    testing::Values(
        RefusedLayout{"data_parallel", "--nproc 8 --threads-as-ranks",
                      "but got 8 (8 ranks); 4 (4 ranks) would work"},
        RefusedLayout{"between_two", "--nproc 6 --tensor-model-parallel-size 2",
                      "but got 3 (6 ranks); 2 (4 ranks) or 4 (8 ranks) would work"},
        RefusedLayout{"groups",
                      "--nproc 2 --pipeline-model-parallel-size 2 "
                      "--num-virtual-stages-per-pipeline-rank 2 "
                      "--microbatch-group-size-per-virtual-pipeline-stage 3",
                      "--microbatch-group-size-per-virtual-pipeline-stage 3; 4 works, or leave it "
                      "out"},
        // Each of two data-parallel ranks has two of the four micro-batches.
        RefusedLayout{"groups_of_a_share",
                      "--nproc 4 --pipeline-model-parallel-size 2 "
                      "--num-virtual-stages-per-pipeline-rank 2 "
                      "--microbatch-group-size-per-virtual-pipeline-stage 4",
                      "the 2 micro-batches of a step, but got 4; 2 works"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace megatron
