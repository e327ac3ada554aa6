// GGUF files by the program: parity in several layouts, convert, tokenize, generate, train.
#include <filesystem>
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/convert/checkpoint_conversion.h"
#include "megatron/convert/gguf_model.h"

#include "tests/convert/hf_folder.h"
#include "tests/program.h"

namespace megatron {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string gguf_folder(const std::string& name) {
  return std::string(TEST_DATA_DIR) + "/gguf/" + name;
}

// What `parity --gguf` prints for a folder that agrees.
std::string parity_output(const std::string& name, const std::string& layout) {
  const ProgramResult result =
      run_program("parity --gguf " + gguf_folder(name) + " --threads 1 " + layout);
  EXPECT_EQ(result.status, 0) << result.output << result.errors;
  return result.output;
}

const auto kParityLayouts =
    testing::Values("", "--nproc 2 --tensor-model-parallel-size 2 --threads-as-ranks",
                    "--nproc 2 --pipeline-model-parallel-size 2 --threads-as-ranks");

class GgufParity : public testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(GgufParity, AgreesWithTransformers) {
  const auto& [name, layout] = GetParam();
  EXPECT_THAT(parity_output(name, layout),
              AllOf(HasSubstr("PASS"), HasSubstr("source_logits"), HasSubstr("source_loss"),
                    HasSubstr("greedy_tokens"), HasSubstr("token_ids"), HasSubstr("round_trip"),
                    HasSubstr("decoded_values")));
}

INSTANTIATE_TEST_SUITE_P(Convert, GgufParity,
                         testing::Combine(testing::Values("llama_f16", "llama3_q4_0", "qwen2_q8_0",
                                                          "qwen3_q4_k_m"),
                                          kParityLayouts));

class GemmaParity : public testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(GemmaParity, AgreesWithTransformers) {
  const auto& [name, layout] = GetParam();
  EXPECT_THAT(parity_output(name, layout),
              AllOf(HasSubstr("PASS"), HasSubstr("source_logits"), HasSubstr("greedy_tokens"),
                    HasSubstr("round_trip"), HasSubstr("decoded_values")));
}

INSTANTIATE_TEST_SUITE_P(Convert, GemmaParity,
                         testing::Combine(testing::Values("gemma2_f16", "gemma3_f32"),
                                          kParityLayouts));

TEST(GgufProgram, ConvertsBothWays) {
  TemporaryFolder scratch;
  const ProgramResult import =
      run_program("convert --from-gguf " + gguf_folder("llama3_q4_0") + "/model.gguf --save " +
                  (scratch / "checkpoint") + " --verify");
  EXPECT_EQ(import.status, 0) << import.errors;
  EXPECT_THAT(import.output, HasSubstr("tensors equal bit for bit"));
  const ProgramResult exported =
      run_program("convert --load " + (scratch / "checkpoint") + " --to-gguf " +
                  (scratch / "out.gguf") + " --gguf-type q8_0 --verify");
  EXPECT_EQ(exported.status, 0) << exported.errors;
  EXPECT_THAT(exported.output, AllOf(HasSubstr("configuration agrees"), HasSubstr("bit for bit"),
                                     HasSubstr("logits of 16 fixed tokens")));
  const ProgramResult refused =
      run_program("convert --load " + (scratch / "checkpoint") + " --to-gguf " +
                  (scratch / "other.gguf") + " --gguf-type q4_0");
  EXPECT_EQ(refused.status, 2);
  EXPECT_THAT(refused.errors, HasSubstr("f32, f16, bf16 or q8_0, but got 'q4_0'"));
  EXPECT_FALSE(std::filesystem::exists(scratch / "other.gguf"));
}

TEST(GgufProgram, OtherCombinationsOfFlagsAreRefused) {
  for (const char* flags :
       {"--from-gguf a", "--from-gguf a --from-hf b --save c", "--to-gguf a --save b",
        "--load a --to-gguf b --to-hf c", "--from-hf a --save b --params-dtype bf16",
        "--load a --to-hf b --gguf-type f16"}) {
    const ProgramResult result = run_program(std::string("convert ") + flags);
    EXPECT_EQ(result.status, 2) << flags << result.errors;
  }
}

TEST(GgufProgram, GeneratesWithTheTokenizerOfTheFile) {
  const std::string model = gguf_folder("qwen2_q8_0") + "/model.gguf";
  const ProgramResult result = run_program(
      "generate --load " + model + " --prompt 'Hello world' --max-new-tokens 4 --temperature 0");
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output, HasSubstr("Hello world"));
}

TEST(GgufProgram, FineTunesAFileInTwoRanksAndWritesItBack) {
  TemporaryFolder scratch;
  const std::string model = gguf_folder("qwen3_q4_k_m") + "/model.gguf";
  const ProgramResult result = run_program(
      "train --load " + model +
      " --mock-data --train-iters 2 --eval-interval 0 --micro-batch-size 2 --seq-length 16 --lr 0 "
      "--weight-decay 0 --nproc 2 --threads-as-ranks --tensor-model-parallel-size 2 --threads 1 "
      "--save " +
      (scratch / "checkpoint"));
  ASSERT_EQ(result.status, 0) << result.output << result.errors;
  EXPECT_THAT(result.output, HasSubstr("fine-tuning the qwen3 model"));
  // With a learning rate of 0 the values are those of the file. An update of 0 may change the sign of a
  // zero, so values are compared and not bits.
  export_gguf(scratch.path() / "checkpoint", scratch.path() / "out.gguf", GgmlType::F32);
  SourceModel before = open_gguf_model(model), after = open_gguf_model(scratch / "out.gguf");
  EXPECT_EQ(before.tensors->names(), after.tensors->names());
  for (const std::string& name : before.tensors->names()) {
    const Rectangle whole = whole_rectangle(before.tensors->find(name)->shape);
    EXPECT_TRUE(at::equal(before.tensors->read(name, whole).to(at::kFloat),
                          after.tensors->read(name, whole).to(at::kFloat)))
        << name;
  }
}

// One head in one group, which two ranks cannot share: TP=2 trains two groups, and exports have one.
TEST(GgufProgram, GroupsOfZerosMakeTensorParallelismPossible) {
  TemporaryFolder scratch;
  copy_model(
      "llama3_rope", scratch.path() / "model",
      [](nlohmann::json& config) {
        config["num_key_value_heads"] = 1;
        config["num_attention_heads"] = 1;
      },
      [](std::vector<NamedTensor>& tensors) {
        for (NamedTensor& tensor : tensors) {
          const auto shrink = [&](int64_t dim, int64_t size) {
            tensor.data = tensor.data.narrow(dim, 0, size).contiguous();
          };
          const bool norm = tensor.name.find("norm") != std::string::npos;
          if (norm) continue;
          if (tensor.name.find("q_proj") != std::string::npos ||
              tensor.name.find("k_proj") != std::string::npos ||
              tensor.name.find("v_proj") != std::string::npos)
            shrink(0, 16);
          if (tensor.name.find("o_proj") != std::string::npos) shrink(1, 16);
        }
      });
  const std::string train =
      "train --load " + (scratch / "model") +
      " --mock-data --train-iters 3 --eval-interval 0 --global-batch-size 2 --micro-batch-size 2 "
      "--seq-length 16 --lr 1e-3 --clip-grad 0.1 --threads 1 ";
  const ProgramResult one =
      run_program(train + "--save " + (scratch / "one") + " --save-hf " + (scratch / "one-hf"));
  ASSERT_EQ(one.status, 0) << one.output << one.errors;
  const ProgramResult two =
      run_program(train + "--nproc 2 --threads-as-ranks --tensor-model-parallel-size 2 --save " +
                  (scratch / "two") + " --save-hf " + (scratch / "two-hf"));
  ASSERT_EQ(two.status, 0) << two.output << two.errors;
  EXPECT_THAT(two.output, HasSubstr("1 query group of zeros added to its 1"));
  EXPECT_THAT(one.output, Not(HasSubstr("of zeros")));
  SourceModel left = open_source_model(scratch.path() / "one-hf/iter_0000003");
  SourceModel right = open_source_model(scratch.path() / "two-hf/iter_0000003");
  for (const std::string& name : left.tensors->names()) {
    const Rectangle whole = whole_rectangle(left.tensors->find(name)->shape);
    ASSERT_EQ(right.tensors->find(name)->shape, left.tensors->find(name)->shape) << name;
    EXPECT_LT((left.tensors->read(name, whole) - right.tensors->read(name, whole))
                  .abs()
                  .max()
                  .item<double>(),
              2e-5)
        << name;
  }
}

}  // namespace
}  // namespace megatron
