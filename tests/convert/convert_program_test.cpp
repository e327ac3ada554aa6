// Conversion by the program: convert, parity --hf in several layouts, train and generate.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/convert/checkpoint_conversion.h"
#include "megatron/convert/hf_tensors.h"

#include "tests/convert/hf_folder.h"
#include "tests/program.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class HfParity : public testing::TestWithParam<std::tuple<std::string, const char*>> {};

TEST_P(HfParity, AgreesWithTransformers) {
  const auto& [name, layout] = GetParam();
  const ProgramResult result =
      run_program("parity --hf " + golden_hf(name).string() + " --threads 1 " + layout);
  EXPECT_EQ(result.status, 0) << result.output << result.errors;
  EXPECT_THAT(result.output,
              AllOf(HasSubstr("PASS"), HasSubstr("source_logits"), HasSubstr("source_grad_norm"),
                    HasSubstr("greedy_tokens"), HasSubstr("round_trip")));
}

INSTANTIATE_TEST_SUITE_P(
    Convert, HfParity,
    testing::Combine(
        testing::ValuesIn(golden_hf_names()),
        testing::Values("", "--nproc 2 --tensor-model-parallel-size 2 --threads-as-ranks",
                        "--nproc 2 --pipeline-model-parallel-size 2 --threads-as-ranks",
                        "--nproc 2 --tensor-model-parallel-size 2 --sequence-parallel "
                        "--threads-as-ranks")));

TEST(ConvertProgram, RoundTripIsVerified) {
  TemporaryFolder scratch;
  const ProgramResult import =
      run_program("convert --from-hf " + golden_hf("llama3_rope").string() + " --save " +
                  (scratch / "checkpoint") + " --verify");
  EXPECT_EQ(import.status, 0) << import.errors;
  EXPECT_THAT(import.output, AllOf(HasSubstr("tensors equal bit for bit"), HasSubstr("logits")));
  const ProgramResult exported = run_program("convert --load " + (scratch / "checkpoint") +
                                             " --to-hf " + (scratch / "out") + " --verify");
  EXPECT_EQ(exported.status, 0) << exported.errors;
  EXPECT_THAT(exported.output, HasSubstr("tensors equal bit for bit"));
  EXPECT_EQ(std::distance(fs::directory_iterator(scratch.path()), {}), 2);
}

TEST(ConvertProgram, OtherCombinationsOfFlagsAreRefused) {
  for (const char* flags : {"", "--from-hf a", "--save b", "--from-hf a --to-hf b",
                            "--from-hf a --save b --to-hf c --load d", "--load a --save b"}) {
    const ProgramResult result = run_program(std::string("convert ") + flags);
    EXPECT_EQ(result.status, 2) << flags << result.errors;
  }
}

TEST(ConvertProgram, FineTunesAFolderInTwoRanksAndWritesFolders) {
  TemporaryFolder scratch;
  const ProgramResult result = run_program(
      "train --load " + golden_hf("qwen2").string() +
      " --mock-data --train-iters 2 --eval-interval 0 --micro-batch-size 2 --seq-length 16 --lr 0 "
      "--weight-decay 0 --nproc 2 --threads-as-ranks --tensor-model-parallel-size 2 --threads 1 "
      "--save " +
      (scratch / "checkpoint") + " --save-hf " + (scratch / "hf"));
  ASSERT_EQ(result.status, 0) << result.output << result.errors;
  EXPECT_THAT(result.output, HasSubstr("fine-tuning the qwen2 model"));
  // With a learning rate of 0 the weights are those of the folder.
  HfTensors expected = HfTensors::open(golden_hf("qwen2"));
  HfTensors actual = HfTensors::open(scratch.path() / "hf/iter_0000002");
  EXPECT_NO_THROW(check_equal_tensors(expected, actual, {}));
  EXPECT_TRUE(fs::exists(scratch.path() / "hf/iter_0000002/tokenizer.json"));
  // The checkpoint exports the same without the original.
  export_checkpoint(scratch.path() / "checkpoint", scratch.path() / "out");
  HfTensors again = HfTensors::open(scratch.path() / "out");
  EXPECT_NO_THROW(check_equal_tensors(expected, again, {}));
}

TEST(ConvertProgram, ContradictingFlagIsAUsageError) {
  const ProgramResult result = run_program("train --load " + golden_hf("qwen2").string() +
                                           " --mock-data --train-iters 1 --hidden-size 128");
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.errors, HasSubstr("--hidden-size 128 instead of 64"));
}

TEST(ConvertProgram, GeneratesFromAFolderAndFromItsCheckpoint) {
  TemporaryFolder scratch;
  const std::string folder = golden_hf("qwen2").string();
  const std::string flags = " --prompt Hello --greedy --max-new-tokens 8 --threads 1";
  const ProgramResult from_folder = run_program("generate --load " + folder + flags);
  ASSERT_EQ(from_folder.status, 0) << from_folder.errors;
  EXPECT_THAT(from_folder.output, HasSubstr("Hello"));
  ASSERT_EQ(
      run_program("convert --from-hf " + folder + " --save " + (scratch / "checkpoint")).status, 0);
  const ProgramResult from_checkpoint =
      run_program("generate --load " + (scratch / "checkpoint") + flags);
  ASSERT_EQ(from_checkpoint.status, 0) << from_checkpoint.errors;
  EXPECT_EQ(from_folder.output, from_checkpoint.output);
}

// Upstream dropped or misplaced the output layer of tied models with virtual stages, and left padding
// rows of the vocabulary in exports.
TEST(ConvertProgram, TiedModelWithVirtualStagesAndPaddedVocabulary) {
  TemporaryFolder scratch;
  const std::string flags =
      " --mock-data --vocab-size 67 --num-layers 4 --hidden-size 32 --num-attention-heads 4 "
      "--seq-length 16 --max-position-embeddings 16 --swiglu --normalization RMSNorm --disable-bias-linear "
      "--position-embedding-type rope --ffn-hidden-size 48 --hidden-dropout 0 --attention-dropout 0 "
      "--eval-interval 0 --threads 1 --micro-batch-size 2 --global-batch-size 4";
  const ProgramResult trained = run_program(
      "train" + flags +
      " --train-iters 2 --lr 1e-3 --nproc 4 --threads-as-ranks --tensor-model-parallel-size 2 "
      "--pipeline-model-parallel-size 2 --num-virtual-stages-per-pipeline-rank 2 --save " +
      (scratch / "checkpoint") + " --save-hf " + (scratch / "hf"));
  ASSERT_EQ(trained.status, 0) << trained.output << trained.errors;
  HfTensors written = HfTensors::open(scratch.path() / "hf/iter_0000002");
  EXPECT_EQ(written.find("lm_head.weight"), nullptr);
  ASSERT_NE(written.find("model.embed_tokens.weight"), nullptr);
  EXPECT_EQ(written.find("model.embed_tokens.weight")->shape, (std::vector<int64_t>{67, 32}));
  EXPECT_EQ(read_json(scratch.path() / "hf/iter_0000002/config.json")["tie_word_embeddings"], true);
  export_checkpoint(scratch.path() / "checkpoint", scratch.path() / "out");
  HfTensors exported = HfTensors::open(scratch.path() / "out");
  EXPECT_NO_THROW(check_equal_tensors(exported, written, {}));
  const ProgramResult resumed =
      run_program("train --load " + (scratch / "hf/iter_0000002") +
                  " --mock-data --train-iters 1 --eval-interval 0 --threads 1 --seq-length 16");
  EXPECT_EQ(resumed.status, 0) << resumed.errors;
}

}  // namespace
}  // namespace megatron
