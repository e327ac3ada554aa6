// --finetune loads a checkpoint into a model with another context: rotary frequencies and window.
#include <filesystem>
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "tests/program.h"
#include "tests/temporary_folder.h"

namespace megatron {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ContextExtension : public testing::Test {
 protected:
  void SetUp() override { EXPECT_EQ(train("--train-iters 1 --save " + folder_).status, 0); }

  static ProgramResult train(const std::string& flags) {
    return run_program(
        "train --mock-data --vocab-size 64 --num-layers 2 --hidden-size 16 --num-attention-heads 2 "
        "--seq-length 16 --position-embedding-type rope --eval-interval 0 --threads 1 " +
        flags);
  }

  const TemporaryFolder directory_;
  const std::string folder_ = directory_.path();
};

TEST_F(ContextExtension, IsAcceptedWithFinetuneAndPrinted) {
  const ProgramResult result =
      train("--train-iters 1 --finetune --load " + folder_ +
            " --rotary-base 500000 --use-rope-scaling --rope-scaling-factor 4 --window-size 7,0");
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output, AllOf(HasSubstr("rotary_base is 10000 in the checkpoint and 500000"),
                                   HasSubstr("rope_scaling is false in the checkpoint and true"),
                                   HasSubstr("window_size is - in the checkpoint and 7,0")));
}

TEST_F(ContextExtension, ErrorWithoutFinetuneSuggestsIt) {
  const ProgramResult result = train("--train-iters 2 --load " + folder_ + " --rotary-base 500000");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.errors, AllOf(HasSubstr("rotary_base is 10000 in the checkpoint and 500000"),
                                   HasSubstr("--finetune accepts these changes")));
}

TEST_F(ContextExtension, OtherArchitecturesAreRefusedWithFinetuneToo) {
  const ProgramResult result = train("--train-iters 1 --finetune --load " + folder_ +
                                     " --rotary-base 500000 --rotary-percent 0.5");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.errors, AllOf(HasSubstr("rotary_percent is 1 in the checkpoint and 0.5"),
                                   testing::Not(HasSubstr("--finetune accepts"))));
}

// The folder is missing at the first start: one folder under two spellings.
TEST_F(ContextExtension, FirstStartWithOneFolderUnderTwoNames) {
  const std::string folder = folder_ + "/new";
  const ProgramResult result =
      train("--train-iters 1 --load " + folder + " --save " + folder + "/");
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output, HasSubstr("no checkpoint in " + folder + " yet"));
}

}  // namespace
}  // namespace megatron
