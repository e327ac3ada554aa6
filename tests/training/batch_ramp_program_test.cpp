// `megatron train` with sample counts and a ramp of the batch size: the same losses in every layout,
// resume bit for bit within the ramp.
#include <gmock/gmock.h>

#include "tests/training/train_program.h"

namespace megatron {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Batches of 4, 4, 8, 12 and then 16 samples.
const std::string kRamp =
    " --mock-data --vocab-size 96 --make-vocab-size-divisible-by 8 --num-layers 4 --hidden-size 32"
    " --num-attention-heads 4 --seq-length 16 --micro-batch-size 2 --global-batch-size 16"
    " --rampup-batch-size 4 4 24 --hidden-dropout 0.1 --attention-dropout 0.1 --eval-interval 4"
    " --eval-iters 2 --threads 1 --lr 1e-3 --lr-decay-style cosine ";
const std::string kSamples = kRamp + "--train-samples 73 --lr-warmup-samples 16 ";

class BatchRamp : public TrainProgram {
 protected:
  struct Step {
    int64_t batch_size, consumed_samples;
    double loss, grad_norm, lr;
  };
  std::vector<Step> steps_of(const std::string& flags, const std::string& log) {
    const ProgramResult result = run_program("train" + flags + " --log-json " + path(log));
    EXPECT_EQ(result.status, 0) << result.errors;
    output_ = result.output;
    std::vector<Step> steps;
    std::ifstream stream(path(log));
    for (std::string line; std::getline(stream, line);) {
      const nlohmann::json json = nlohmann::json::parse(line);
      steps.push_back({json["batch_size"], json["consumed_samples"], json["loss"],
                       json["grad_norm"], json["lr"]});
    }
    return steps;
  }
  static std::vector<int64_t> sizes(const std::vector<Step>& steps) {
    std::vector<int64_t> result;
    for (const Step& step : steps) result.push_back(step.batch_size);
    return result;
  }
  std::string output_;
};

TEST_F(BatchRamp, EveryLayoutTakesTheSameStepsAndLosses) {
  const std::vector<Step> one = steps_of(kSamples, "one.jsonl");
  EXPECT_THAT(sizes(one), ElementsAre(4, 4, 8, 12, 16, 16));  // 60 of 73 samples
  EXPECT_EQ(one.back().consumed_samples, 60);
  EXPECT_THAT(output_, HasSubstr("step 1/6 | batch     4 | loss "));
  EXPECT_THAT(output_, HasSubstr("step 6/6 | batch    16 | loss "));
  // The rate of a step follows the samples before it: 8 of 16 in the warm-up.
  EXPECT_DOUBLE_EQ(one[2].lr, 1e-3 * 8 / 16);
  for (
      const char* layout :
      {"--nproc 2 --threads-as-ranks",
       "--nproc 2 --threads-as-ranks --pipeline-model-parallel-size 2",
       "--nproc 4 --threads-as-ranks --tensor-model-parallel-size 2 --use-distributed-optimizer"}) {
    const std::vector<Step> ours = steps_of(kSamples + layout, "layout.jsonl");
    std::filesystem::remove(path("layout.jsonl"));
    ASSERT_EQ(sizes(ours), sizes(one)) << layout;
    for (size_t i = 0; i < one.size(); ++i) {
      EXPECT_NEAR(ours[i].loss, one[i].loss, 1e-5) << layout << ", step " << i + 1;
      EXPECT_NEAR(ours[i].grad_norm, one[i].grad_norm, 1e-4) << layout << ", step " << i + 1;
      EXPECT_EQ(ours[i].lr, one[i].lr) << layout << ", step " << i + 1;
    }
  }
}

TEST_F(BatchRamp, ResumesWithinTheRampBitForBit) {
  for (const std::string layout :
       {"", "--nproc 2 --threads-as-ranks --pipeline-model-parallel-size 2"}) {
    const auto whole = steps_of(kSamples + layout + " --save " + path("whole"), "whole.jsonl");
    steps_of(kSamples + layout + " --exit-interval 3 --save " + path("parts"), "first.jsonl");
    const auto rest = steps_of(
        kSamples + layout + " --load " + path("parts") + " --save " + path("parts"), "rest.jsonl");
    EXPECT_THAT(output_, testing::Not(HasSubstr("not bit")));
    ASSERT_EQ(rest.size(), 3);
    for (size_t i = 0; i < rest.size(); ++i) {
      EXPECT_EQ(rest[i].batch_size, whole[i + 3].batch_size);
      EXPECT_EQ(rest[i].loss, whole[i + 3].loss);
      EXPECT_EQ(rest[i].grad_norm, whole[i + 3].grad_norm);
      EXPECT_EQ(rest[i].lr, whole[i + 3].lr);
    }
    expect_equal_checkpoints(path("whole"), path("parts"));
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
      std::filesystem::remove_all(entry.path());
  }
}

// With --train-iters, iterations of the learning rate stand for --global-batch-size samples.
TEST_F(BatchRamp, RunsForIterationsToo) {
  const auto steps = steps_of(kRamp + "--train-iters 7 --lr-warmup-iters 1 ", "log.jsonl");
  EXPECT_THAT(sizes(steps), ElementsAre(4, 4, 8, 12, 16, 16, 16));
  EXPECT_DOUBLE_EQ(steps[1].lr, 1e-3 * 4 / 16);
}

// Samples that are left are trained in whole steps, also with another batch size than before.
TEST_F(BatchRamp, ResumeWithAnotherBatchSizeEndsAtTheSameSamples) {
  const std::string flags = kSamples.substr(0, kSamples.find("--global-batch-size")) +
                            "--eval-interval 0 --threads 1 --lr 1e-3 --train-samples 40 --load " +
                            path("c") + " --save " + path("c");
  steps_of(flags + " --global-batch-size 4 --exit-interval 4", "first.jsonl");
  const auto rest = steps_of(flags + " --global-batch-size 8", "rest.jsonl");
  EXPECT_THAT(sizes(rest), ElementsAre(8, 8, 8));
  EXPECT_EQ(rest.back().consumed_samples, 40);
  EXPECT_THAT(output_, HasSubstr("step 7/7"));
  const ProgramResult done = run_program("train" + flags + " --global-batch-size 8");
  EXPECT_THAT(done.output, HasSubstr("is at iteration 7 of 7 (--train-samples 40)"));
}

// Sizes are multiples of 6: 4 becomes 0, which is refused; 8, 12 and 16 become 6, 12 and 12.
TEST_F(BatchRamp, DecreasesTheBatchSizeIfNeeded) {
  const std::string three_ranks = "--nproc 3 --threads-as-ranks --decrease-batch-size-if-needed ";
  const ProgramResult small = run_program("train" + kRamp + three_ranks + "--train-iters 4");
  EXPECT_EQ(small.status, 1);
  EXPECT_THAT(small.errors, HasSubstr("Expected global batch sizes of at least 6"));
  std::string ramp = kRamp;
  ramp.replace(ramp.find("4 4 24"), 6, "8 4 24");
  const auto steps = steps_of(ramp + three_ranks + "--train-iters 4", "log.jsonl");
  EXPECT_THAT(sizes(steps), ElementsAre(6, 6, 12, 12));
}

}  // namespace
}  // namespace megatron
