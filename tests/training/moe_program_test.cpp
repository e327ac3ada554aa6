// Training with experts through the program: checkpoints in other layouts, record and replay of the
// routers' choices, upcycling.
#include <gmock/gmock.h>

#include "megatron/formats/safetensors_file.h"

#include "tests/training/train_program.h"

namespace megatron {
namespace {

using testing::HasSubstr;

const std::string kExperts =
    " --swiglu --disable-bias-linear --num-experts 4 --moe-ffn-hidden-size 32 "
    "--moe-aux-loss-coeff 0.01 --moe-router-score-function sigmoid --moe-router-enable-expert-bias "
    "--moe-token-dispatcher-type alltoall --moe-layer-freq 2";

class MoeProgram : public TrainProgram {
 protected:
  // The losses of a run with these flags, which succeeds.
  std::map<int64_t, std::pair<double, double>> losses(const std::string& name,
                                                      const std::string& flags) {
    const ProgramResult result = train(flags + " --log-json " + path(name + ".jsonl"));
    EXPECT_EQ(result.status, 0) << result.errors;
    return read_log(path(name + ".jsonl"));
  }
};

void expect_same_losses(const std::map<int64_t, std::pair<double, double>>& left,
                        const std::map<int64_t, std::pair<double, double>>& right, size_t steps) {
  size_t compared = 0;
  for (const auto& [step, numbers] : left) {
    const auto other = right.find(step);
    if (other == right.end()) continue;
    ++compared;
    EXPECT_NEAR(numbers.first, other->second.first, 1e-5) << step;
    EXPECT_NEAR(numbers.second, other->second.second, 1e-5) << step;
  }
  EXPECT_EQ(compared, steps);
}

TEST_F(MoeProgram, CheckpointsContinueInOtherLayoutsOfRanksAndExperts) {
  const auto whole = losses("whole", kExperts);
  // Without the flags of the schedule, a shorter run would decay faster.
  losses("first", kExperts + " --exit-interval 4 --save " + path("c") +
                      " --nproc 4 --threads-as-ranks --expert-model-parallel-size 2 "
                      "--expert-tensor-parallel-size 2 --use-distributed-optimizer");
  const std::string load = kExperts + " --load " + path("c");
  expect_same_losses(whole, losses("one_rank", load), 4);
  expect_same_losses(whole,
                     losses("tensor", load + " --nproc 2 --threads-as-ranks "
                                             "--tensor-model-parallel-size 2 --sequence-parallel "
                                             "--expert-model-parallel-size 2 "
                                             "--expert-tensor-parallel-size 1"),
                     4);
  // One tensor for all experts, saved from sequential ones; and back.
  expect_same_losses(
      whole,
      losses("grouped", load + " --moe-grouped-gemm --exit-interval 6 --save " + path("g") +
                            " --nproc 2 --threads-as-ranks "
                            "--pipeline-model-parallel-size 2"),
      2);
  auto grouped = CheckpointReader::open(path("g"));
  EXPECT_TRUE(grouped.contains("decoder.layers.0.mlp.experts.experts.linear_fc1.weight"));
  EXPECT_TRUE(CheckpointReader::open(path("c")).contains(
      "decoder.layers.0.mlp.experts.local_experts.3.linear_fc1.weight"));
  expect_same_losses(whole, losses("back", kExperts + " --load " + path("g")), 2);
  const ProgramResult dense = train("--swiglu --disable-bias-linear --load " + path("g"));
  EXPECT_NE(dense.status, 0);
  EXPECT_THAT(dense.errors, HasSubstr("num_moe_experts is 4 in the checkpoint"));
}

TEST_F(MoeProgram, ReplayedChoicesGiveTheSameRunInAnyLayout) {
  const std::string record = kExperts + " --moe-router-record ";
  const auto recorded = losses("recorded", record + path("r") +
                                               " --nproc 2 --threads-as-ranks "
                                               "--expert-model-parallel-size 2");
  const auto replayed =
      losses("replayed", record + path("r2") + " --moe-router-replay " + path("r"));
  expect_same_losses(recorded, replayed, 8);
  const std::string file = "/iteration_0000003/decoder.layers.2.mlp.router.safetensors";
  const auto chosen = [&](const std::string& folder) {
    return SafetensorsFile::open(path(folder) + file).tensor("chosen");
  };
  EXPECT_EQ(chosen("r").sizes(), (at::IntArrayRef{8, 16, 2}));
  EXPECT_TRUE(chosen("r").equal(chosen("r2")));
  const ProgramResult other =
      train(kExperts + " --moe-router-topk 1 --moe-router-replay " + path("r"));
  EXPECT_NE(other.status, 0);
  EXPECT_THAT(other.errors, HasSubstr("Expected recorded choices of shape"));
}

TEST_F(MoeProgram, UpcyclingStartsWithTheDenseModelsLoss) {
  const std::string dense = " --swiglu --disable-bias-linear --ffn-hidden-size 64";
  losses("dense", dense + " --exit-interval 4 --save " + path("d"));
  const auto expected = losses("more", dense + " --finetune --load " + path("d"));
  const auto upcycled =
      losses("upcycled", dense +
                             " --num-experts 8 --moe-router-topk 4 --moe-ffn-hidden-size 32 "
                             "--moe-use-upcycling --moe-upcycling-granularity 2 --nproc 2 "
                             "--threads-as-ranks --expert-model-parallel-size 2 --load " +
                             path("d"));
  EXPECT_NEAR(upcycled.at(1).first, expected.at(1).first, 1e-5);
}

}  // namespace
}  // namespace megatron
