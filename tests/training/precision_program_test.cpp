// `megatron train` in fp16 and FP8: loss scales and skipped steps in the log, runs that resume bit for
// bit, and checkpoints between precisions.
#include <gmock/gmock.h>

#include "tests/training/train_program.h"

namespace megatron {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class PrecisionProgram : public TrainProgram {
 protected:
  struct Step {
    double loss, loss_scale;
    nlohmann::json fp8;
  };
  // By step. The gradient norm of a skipped step is no number.
  std::map<int64_t, Step> run(const std::string& name, const std::string& flags) {
    const ProgramResult result = train(flags + " --log-json " + path(name + ".jsonl"));
    EXPECT_EQ(result.status, 0) << result.errors;
    output_ = result.output;
    std::map<int64_t, Step> steps;
    std::ifstream stream(path(name + ".jsonl"));
    for (std::string line; std::getline(stream, line);) {
      const nlohmann::json json = nlohmann::json::parse(line);
      steps[json["step"]] = {json["loss"], json.value("loss_scale", 0.0),
                             json.value("fp8", nlohmann::json())};
    }
    return steps;
  }
  std::string refusal(const std::string& flags) {
    const ProgramResult result = train(flags);
    EXPECT_NE(result.status, 0);
    return result.errors;
  }

  std::string output_;  // of the last run
};

TEST_F(PrecisionProgram, Fp16SkipsStepsUntilTheLossScaleFits) {
  const auto steps = run("fp16", "--fp16 --hysteresis 1 --initial-loss-scale 4294967296");
  EXPECT_THAT(output_, AllOf(HasSubstr("| loss scale 4294967296.0 |"),
                             HasSubstr("iteration 1 skipped: the gradient norm is"),
                             HasSubstr("the loss scale falls to 2147483648; skipped iterations of "
                                       "this run: 1")));
  EXPECT_EQ(steps.at(1).loss_scale, 0x1p32);
  EXPECT_EQ(steps.at(2).loss_scale, 0x1p31);
  // A skipped step changes no weight.
  const auto fits = run("fits", "--fp16 --initial-loss-scale 1024 --loss-scale-window 3");
  EXPECT_EQ(fits.at(3).loss_scale, 1024);
  EXPECT_EQ(fits.at(4).loss_scale, 2048);
  EXPECT_EQ(fits.at(7).loss_scale, 4096);
  const auto fp32 = run("fp32", "");
  for (const auto& [step, numbers] : fits) {
    EXPECT_NEAR(numbers.loss, fp32.at(step).loss, 5e-3) << step;
    EXPECT_EQ(fp32.at(step).loss_scale, 0);
  }
  EXPECT_EQ(run("constant", "--fp16 --loss-scale 512").at(8).loss_scale, 512);
}

TEST_F(PrecisionProgram, Fp16ResumesBitForBitWithItsScaler) {
  // Grows every second step until it overflows.
  const std::string flags = "--fp16 --initial-loss-scale 1048576 --loss-scale-window 2 ";
  const auto whole = run("whole", flags + "--save " + path("whole"));
  run("first", flags + "--exit-interval 5 --save " + path("c5"));
  const auto rest = run("rest", flags + "--load " + path("c5") + " --save " + path("c"));
  ASSERT_EQ(rest.size(), 3u);
  for (const auto& [step, numbers] : rest) {
    EXPECT_EQ(numbers.loss, whole.at(step).loss) << step;
    EXPECT_EQ(numbers.loss_scale, whole.at(step).loss_scale) << step;
  }
  expect_equal_checkpoints(path("whole"), path("c"));
  EXPECT_EQ(CheckpointReader::open(path("c")).common()["loss_scaler"],
            CheckpointReader::open(path("whole")).common()["loss_scaler"]);
  // In another layout.
  run("more", flags + "--load " + path("c5") +
                  " --nproc 2 --threads-as-ranks --tensor-model-parallel-size 2");
}

TEST_F(PrecisionProgram, LossScalingIsThatOfFp16) {
  EXPECT_THAT(refusal("--bf16 --loss-scale 8"), HasSubstr("Expected --fp16 with --loss-scale"));
  EXPECT_THAT(refusal("--hysteresis 4"), HasSubstr("Expected --fp16 with --hysteresis"));
  EXPECT_THAT(refusal("--fp16 --bf16"), HasSubstr("Expected --bf16 or --fp16, but got both"));
  EXPECT_THAT(refusal("--fp16 --loss-scale 8 --loss-scale-window 5"),
              HasSubstr("Expected --loss-scale, which is constant, or --loss-scale-window"));
  EXPECT_THAT(
      refusal("--fp16 --min-loss-scale 4 --initial-loss-scale 2"),
      HasSubstr("Expected --min-loss-scale of at most --initial-loss-scale (2), but got 4"));
  EXPECT_THAT(refusal("--fp16 --loss-scale 0"), HasSubstr("Expected --loss-scale above 0"));
}

TEST_F(PrecisionProgram, Fp8ResumesBitForBitWithItsAmaxHistory) {
  const std::string flags =
      "--bf16 --fp8-format hybrid --fp8-amax-history-len 3 --fp8-amax-compute-algo max ";
  const auto whole = run("whole", flags + "--save " + path("whole"));
  EXPECT_THAT(output_, HasSubstr("| delayed saturated"));
  EXPECT_EQ(whole.at(1).fp8["recipe"], "delayed");
  EXPECT_GT(whole.at(1).fp8["elements"].get<double>(), 0);
  run("first", flags + "--exit-interval 5 --save " + path("c5"));
  const auto rest = run("rest", flags + "--load " + path("c5") + " --save " + path("c"));
  ASSERT_EQ(rest.size(), 3u);
  for (const auto& [step, numbers] : rest) EXPECT_EQ(numbers.loss, whole.at(step).loss) << step;
  expect_equal_checkpoints(path("whole"), path("c"));
  auto stored = CheckpointReader::open(path("c"));
  EXPECT_EQ(stored.load_tensor("decoder.layers.3.mlp.linear_fc2.fp8_state").sizes(),
            (at::IntArrayRef{3, 4}));

  EXPECT_THAT(refusal("--bf16 --load " + path("c5")),
              HasSubstr("Expected --fp8-recipe delayed as in the checkpoint"));
  run("bf16", "--bf16 --finetune --load " + path("c5"));
  // Two ranks go on with the same scales.
  const auto tp2 = run("tp2", flags + "--load " + path("c5") +
                                  " --nproc 2 --threads-as-ranks --tensor-model-parallel-size 2 "
                                  "--sequence-parallel");
  ASSERT_EQ(tp2.size(), 3u);
  for (const auto& [step, numbers] : tp2) {
    EXPECT_NEAR(numbers.loss, whole.at(step).loss, 1e-3 * whole.at(step).loss) << step;
  }
  run("high", "--bf16 --exit-interval 4 --save " + path("b"));
  run("begins", flags + "--load " + path("b"));
  EXPECT_THAT(output_, HasSubstr("FP8 begins with scales of 1"));
}

TEST_F(PrecisionProgram, EveryFp8RecipeTrainsNearHighPrecision) {
  const auto bf16 = run("bf16", "--bf16");
  for (const std::string recipe : {"tensorwise", "blockwise", "mxfp8"}) {
    const auto steps = run(recipe, "--bf16 --fp8-format e4m3 --fp8-recipe " + recipe);
    for (const auto& [step, numbers] : steps) {
      EXPECT_NEAR(numbers.loss, bf16.at(step).loss, 0.02 * bf16.at(step).loss) << recipe << step;
      EXPECT_NE(numbers.loss, bf16.at(step).loss) << recipe << step;
    }
  }
  run("ends", "--bf16 --fp8-format e4m3 --fp8-recipe mxfp8 --first-last-layers-bf16");
}

TEST_F(PrecisionProgram, Fp8IsRefusedWhereItWouldBeIgnored) {
  EXPECT_THAT(refusal("--fp8-format e4m3 --transformer-impl local"),
              HasSubstr("Expected transformer_engine_layer_spec"));
  EXPECT_THAT(refusal("--fp8-recipe mxfp8"),
              HasSubstr("Expected --fp8-format e4m3 with --fp8-recipe"));
  EXPECT_THAT(refusal("--fp8-format hybrid --fp8-recipe mxfp8"),
              HasSubstr("Expected --fp8-format e4m3 with --fp8-recipe mxfp8"));
  EXPECT_THAT(refusal("--fp8-format e4m3 --fp8-recipe tensorwise --fp8-margin 2"),
              HasSubstr("Expected --fp8-recipe delayed with --fp8-margin"));
  EXPECT_THAT(refusal("--fp8-format e4m3 --num-experts 4"),
              HasSubstr("the products of experts are in high precision only"));
  EXPECT_THAT(refusal("--fp8-format e4m3 --fp8-param-gather"),
              HasSubstr("not supported in this version"));
  EXPECT_THAT(refusal("--fp8-format e4m3 --params-dtype fp64"),
              HasSubstr("Expected bf16, fp16 or fp32 with fp8"));
}

}  // namespace
}  // namespace megatron
