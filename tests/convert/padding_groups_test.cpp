// Groups of zeros for tensor-parallel ranks that cannot share a model's query groups.
#include "megatron/convert/padding_groups.h"

#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/convert/checkpoint_conversion.h"
#include "megatron/convert/hf_tensors.h"
#include "megatron/convert/source_model.h"

#include "tests/convert/hf_folder.h"
#include "tests/program.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr const char* kTwoRanks =
    " --nproc 2 --threads-as-ranks --tensor-model-parallel-size 2 --threads 1 ";

TEST(PaddingGroups, AreAddedAndLeftOut) {
  GPTModelConfig model = read_source_config(golden_hf("qwen2"));
  model.transformer.num_attention_heads = 9;
  model.transformer.num_query_groups = 3;
  model.transformer.kv_channels = 64;
  const GPTModelConfig padded = with_padding_groups(model, 2);
  EXPECT_EQ(padded.transformer.num_attention_heads, 12);
  EXPECT_EQ(padded.transformer.num_query_groups, 4);
  EXPECT_EQ(padded.transformer.head_dim(), 64);
  const GPTModelConfig back = without_padding_groups(padded, model);
  EXPECT_EQ(back.transformer.num_attention_heads, 9);
  EXPECT_EQ(back.transformer.num_query_groups, 3);
  EXPECT_EQ(with_padding_groups(model, 3).transformer.num_attention_heads, 9);
  EXPECT_EQ(with_padding_groups(model, 1).transformer.num_attention_heads, 9);
}

// Qwen2 with 6 heads in 3 groups in place of 4 in 2.
class ThreeGroups : public testing::Test {
 protected:
  ThreeGroups() {
    const auto grow = [](nlohmann::json& config) {
      config["num_attention_heads"] = 6;
      config["num_key_value_heads"] = 3;
      config["head_dim"] = 16;
    };
    // The new rows and columns differ from those that they are copies of.
    const auto more = [](const at::Tensor& tensor, int64_t dim, int64_t count) {
      return at::cat({tensor, tensor.narrow(dim, 0, count).flip(dim) * 0.5}, dim);
    };
    copy_model("qwen2", folder(), grow, [&](std::vector<NamedTensor>& tensors) {
      for (NamedTensor& tensor : tensors) {
        const auto is = [&](const char* part) {
          return tensor.name.find(part) != std::string::npos;
        };
        if (is("q_proj")) tensor.data = more(tensor.data, 0, 32);
        if (is("k_proj") || is("v_proj")) tensor.data = more(tensor.data, 0, 16);
        if (is("o_proj")) tensor.data = more(tensor.data, 1, 32);
      }
    });
    for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
      fs::copy_file(golden_hf("qwen2") / file, folder() / file);
  }
  fs::path folder() const { return scratch_.path() / "model"; }
  static std::string generated(const std::string& load, const std::string& layout) {
    const ProgramResult result =
        run_program("generate --load " + load +
                    " --prompt Hello --greedy --max-new-tokens 12 --params-dtype fp64 " + layout);
    EXPECT_EQ(result.status, 0) << result.errors;
    return result.output;
  }

  const TemporaryFolder scratch_;
};

TEST_F(ThreeGroups, GenerateInTwoRanks) {
  const std::string text = generated(folder().string(), "--threads 1");
  EXPECT_THAT(text, HasSubstr("Hello"));
  EXPECT_EQ(generated(folder().string(), kTwoRanks), text);
  // A checkpoint has the model's groups, whatever layout loads it.
  ASSERT_EQ(
      run_program("convert --from-hf " + folder().string() + " --save " + (scratch_ / "checkpoint"))
          .status,
      0);
  EXPECT_EQ(generated(scratch_ / "checkpoint", kTwoRanks), text);
}

TEST_F(ThreeGroups, TrainFromACheckpointInTwoRanks) {
  ASSERT_EQ(
      run_program("convert --from-hf " + folder().string() + " --save " + (scratch_ / "checkpoint"))
          .status,
      0);
  const std::string flags =
      " --mock-data --eval-interval 0 --micro-batch-size 2 --seq-length 16 --weight-decay 0 --lr 0 ";
  const ProgramResult trained = run_program(
      "train --finetune --train-iters 1 --load " + (scratch_ / "checkpoint") + flags + kTwoRanks +
      " --save " + (scratch_ / "padded") + " --save-hf " + (scratch_ / "hf"));
  ASSERT_EQ(trained.status, 0) << trained.output << trained.errors;
  // With a learning rate of 0 the weights are those of the folder.
  HfTensors expected = HfTensors::open(folder());
  HfTensors actual = HfTensors::open(scratch_.path() / "hf/iter_0000001");
  EXPECT_NO_THROW(check_equal_tensors(expected, actual, {}));
  // The padded checkpoint resumes in one rank, with its optimizer.
  const ProgramResult resumed =
      run_program("train --train-iters 2 --threads 1 --load " + (scratch_ / "padded") + flags +
                  " --save-hf " + (scratch_ / "again"));
  ASSERT_EQ(resumed.status, 0) << resumed.output << resumed.errors;
  HfTensors again = HfTensors::open(scratch_.path() / "again/iter_0000002");
  EXPECT_NO_THROW(check_equal_tensors(expected, again, {}));
}

// Resumes a run of one rank, optimizer and all, in two.
TEST_F(ThreeGroups, ResumeInTwoRanks) {
  const auto train = [&](int iterations, const std::string& load, const std::string& more) {
    const ProgramResult result = run_program(
        "train --mock-data --eval-interval 0 --micro-batch-size 2 --seq-length 16 --lr 1e-3 "
        "--params-dtype fp64 --lr-decay-style constant --load " +
        load + " --train-iters " + std::to_string(iterations) + " " + more);
    EXPECT_EQ(result.status, 0) << result.output << result.errors;
  };
  train(1, folder().string(), "--threads 1 --save " + (scratch_ / "one"));
  train(2, scratch_ / "one", "--threads 1 --save-hf " + (scratch_ / "hf1"));
  train(2, scratch_ / "one", kTwoRanks + std::string("--save-hf ") + (scratch_ / "hf2"));
  HfTensors one = HfTensors::open(scratch_.path() / "hf1/iter_0000002");
  HfTensors two = HfTensors::open(scratch_.path() / "hf2/iter_0000002");
  for (const std::string& name : one.names()) {
    const Rectangle whole = whole_rectangle(one.find(name)->shape);
    EXPECT_TRUE(at::allclose(one.read(name, whole), two.read(name, whole), 1e-6, 1e-7)) << name;
  }
}

}  // namespace
}  // namespace megatron
