// `megatron generate` as a program.
#include <filesystem>
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "tests/program.h"
#include "tests/temporary_folder.h"

namespace megatron {
namespace {

class GenerateProgram : public testing::Test {
 protected:
  const TemporaryFolder folder_;
};

// The byte tokenizer has 257 ids, of which an untrained model with 512 chooses about every second
// token.
TEST_F(GenerateProgram, SamplesOnlyIdsOfTheTokenizer) {
  const std::string save = folder_ / "c";
  const ProgramResult trained = run_program(
      "train --mock-data --tokenizer-type ByteTokenizer --vocab-size 512 --num-layers 1 "
      "--hidden-size 16 --num-attention-heads 2 --seq-length 64 --max-position-embeddings 64 "
      "--train-iters 1 --eval-interval 1 --eval-iters 1 --threads 1 --lr 1e-3 --save " +
      save);
  ASSERT_EQ(trained.status, 0) << trained.errors;
  for (const char* flags :
       {"--num-samples 4 --temperature 1", "--temperature 0", "--num-samples 4 --top-k 400",
        "--num-samples 4 --top-p 0.95",
        "--nproc 2 --tensor-model-parallel-size 2 --num-samples 4 --temperature 1"}) {
    const ProgramResult result = run_program("generate --load " + save +
                                             " --prompt ab --max-new-tokens 40 "
                                             "--threads 1 " +
                                             flags);
    EXPECT_EQ(result.status, 0) << flags << ": " << result.errors;
    EXPECT_THAT(result.output, testing::HasSubstr("ab")) << flags;
  }
}

}  // namespace
}  // namespace megatron
