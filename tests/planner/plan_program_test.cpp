// `megatron plan`: stages, the bound of the schedule, memory, and the picture.
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <sstream>

#include <gtest/gtest.h>

#include "megatron/config/validate/validate.h"
#include "megatron/planner/layout_plan.h"

#include "tests/program.h"
#include "tests/temporary_folder.h"

namespace megatron {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kPlanned =
    "plan --num-layers 8 --hidden-size 64 --num-attention-heads 4 --seq-length 32 --vocab-size 96 "
    "--make-vocab-size-divisible-by 8 ";

ProgramResult plan(const std::string& flags) {
  return run_program(kPlanned + flags);
}

TEST(PlanProgram, PrintsStagesAndTheBoundOfTheSchedule) {
  const ProgramResult result =
      plan("--pipeline-model-parallel-size 4 --micro-batch-size 2 --global-batch-size 32");
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output,
              AllOf(HasSubstr("TP=1 x PP=4 x CP=1 x DP=1, 4 ranks; 16 micro-batches of 2 x 32"),
                    HasSubstr("layers 1-2, embedding"), HasSubstr("layers 7-8, output layer"),
                    HasSubstr("bubble: 15.8%"),  // 3 / (16 + 3)
                    HasSubstr("upper bound on efficiency: 84.2% by the schedule alone")));
}

TEST(PlanProgram, VerboseDescribesTheLayersOfEveryStage) {
  const std::string flags = "--pipeline-model-parallel-size 4 --global-batch-size 32";
  EXPECT_THAT(plan(flags).output, Not(HasSubstr("building GPTModel")));
  const ProgramResult result = plan(flags + " --verbose");
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output,
              AllOf(HasSubstr("building GPTModel, stage 1 of 4, chunk 1 of 1: layers 1-2"),
                    HasSubstr("building GPTModel, stage 4 of 4, chunk 1 of 1: layers 7-8"),
                    HasSubstr("linear_qkv: TELayerNormColumnParallelLinear")));
}

TEST(PlanProgram, PrintsVirtualStagesAndDataParallelRanks) {
  const ProgramResult result = plan(
      "--pipeline-model-parallel-size 2 --num-virtual-stages-per-pipeline-rank 2 "
      "--world-size 8 --tensor-model-parallel-size 2 --global-batch-size 16");
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output, AllOf(HasSubstr("DP=2, 8 ranks; 8 micro-batches"),
                                   HasSubstr("0-3       layers 1-2, embedding; layers 5-6"),
                                   HasSubstr("interleaved 1F1B, 2 chunks per rank, groups of 2"),
                                   HasSubstr("bubble: 5.9%")));  // 1 / (2 * 8 + 1)
}

// Batches of 4, 4, 8, 12 and then 16; a size that does not divide is refused as in training.
TEST(PlanProgram, DescribesARampOfTheBatchSize) {
  const std::string ramp =
      "--pipeline-model-parallel-size 2 --micro-batch-size 2 --global-batch-size 16 "
      "--train-samples 73 --use-mcore-models ";
  const ProgramResult result = plan(ramp + "--rampup-batch-size 4 4 24");
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output,
              AllOf(HasSubstr("8 micro-batches of 2 x 32 per step"),
                    HasSubstr("batch size: 4 growing to 16 in 4 sizes over 24 samples, 4 steps; "
                              "the plan is for the last, the first has 2 micro-batches per step"),
                    HasSubstr("because it is always so: --use-mcore-models")));
  const ProgramResult uneven = plan(ramp + "--rampup-batch-size 4 3 24");
  EXPECT_EQ(uneven.status, 1);
  EXPECT_THAT(uneven.errors, HasSubstr("divisible by 2 (--micro-batch-size 2 x data parallel 1), "
                                       "but got 4 and 3; 4 and 2 or 4 would work"));
}

TEST(PlanProgram, DrawsTheSchedule) {
  const TemporaryFolder folder;
  const std::string file = folder / "plan.svg";
  const ProgramResult result = plan(
      "--pipeline-model-parallel-size 2 --pipeline-model-parallel-layout \"Et*3|t*2||t*3L\" "
      "--global-batch-size 4 --draw-schedule " +
      file);
  EXPECT_EQ(result.status, 0) << result.errors;
  std::stringstream picture;
  picture << std::ifstream(file).rdbuf();
  EXPECT_THAT(picture.str(),
              AllOf(HasSubstr("<svg xmlns"), HasSubstr("prefers-color-scheme: dark"),
                    HasSubstr("stage 1: backward of micro-batch 3, chunk 1"), HasSubstr("</svg>"),
                    Not(HasSubstr("http://www.w3.org/1999/xlink"))));
}

TEST(PlanProgram, RefusesWhatTrainingRefuses) {
  for (const auto& [flags, message] :
       {std::pair{"--pipeline-model-parallel-size 3", "--num-layers 6 or 9"},
        {"--pipeline-model-parallel-size 2 --world-size 3", "2 or 4 ranks would work"},
        {"--pipeline-model-parallel-size 2 --world-size 0", "1 to"},
        {"--pipeline-model-parallel-size 2 --pipeline-model-parallel-layout \"Et*8|L|\"",
         "E in the first and L in the last"},
        {"--pipeline-model-parallel-size 2 --draw-schedule /nowhere/x.svg",
         "/nowhere/x.svg, but could not: No such file or directory"},
        {"--pipeline-model-parallel-size 2 --draw-schedule x.png", "'x.png'; x.svg works"}}) {
    const ProgramResult result = plan(std::string(flags));
    EXPECT_NE(result.status, 0) << flags;
    EXPECT_THAT(result.errors, HasSubstr(message)) << flags;
  }
}

// A plan accepts the file and the flags of the training run.
TEST(PlanProgram, AcceptsTheCommandLineOfTraining) {
  const std::string examples = EXAMPLES_DIR;
  const ProgramResult result = run_program(
      "plan --config " + examples + "/quickstart.yaml --tokenizer-model " + examples +
      "/data/tokenizer.json --nproc 4 --tensor-model-parallel-size 2 --use-distributed-optimizer "
      "--overlap-grad-reduce --recompute-granularity selective --data-path nowhere --save nowhere");
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output,
              AllOf(HasSubstr(", bf16\n"), HasSubstr("DP=2 (distributed optimizer), 4 ranks"),
                    HasSubstr("activations and temporary buffers")));
}

TEST(PlanProgram, AcceptsTheExampleWithExperts) {
  const std::string examples = EXAMPLES_DIR;
  const ProgramResult result =
      run_program("plan --config " + examples + "/moe.yaml --tokenizer-model " + examples +
                  "/data/tokenizer.json --nproc 2 ");
  EXPECT_EQ(result.status, 0) << result.errors;
  EXPECT_THAT(result.output, AllOf(HasSubstr("2 of 8 experts"), HasSubstr("experts EP=2 x ETP=1")));
  const ProgramResult combined =
      run_program("plan --config " + examples + "/moe.yaml --tokenizer-model " + examples +
                  "/data/tokenizer.json --nproc 4 --pipeline-model-parallel-size 2 "
                  "--overlap-moe-expert-parallel-comm");
  EXPECT_EQ(combined.status, 0) << combined.errors;
  EXPECT_THAT(combined.output, HasSubstr("schedule: combined 1F1B\n"));
}

TEST(PlanProgram, PrintsTheMemoryOfARank) {
  // Per parameter 2 bytes of weight, 4 of gradient and 12 of optimizer state, sharded over dp x cp.
  const std::string model =
      "plan --num-layers 4 --hidden-size 1024 --num-attention-heads 8 --seq-length 64 --vocab-size "
      "1024 --untie-embeddings-and-output-weights --position-embedding-type none "
      "--disable-bias-linear --normalization RMSNorm --bf16 --world-size 4 "
      "--context-parallel-size 2 ";
  // 12 x 1024^2 weights per layer and 2 x 1024^2 of the vocabulary: 50 Mi; norms: 9 x 1024.
  const auto stage = [](const char* weights, const char* gradients, const char* state,
                        const char* sum) {
    return HasSubstr(fmt::format("{:<15} {:>10} {:>10} {:>16} {:>10}\n", "stage 0", weights,
                                 gradients, state, sum));
  };
  const auto output = [&](const std::string& flags) { return run_program(model + flags).output; };
  EXPECT_THAT(output(""), stage("100.0", "200.0", "600.1", "900.2"));
  EXPECT_THAT(output("--use-distributed-optimizer"), stage("100.0", "200.0", "150.0", "450.1"));
  const std::string fsdp = "--use-megatron-fsdp --data-parallel-sharding-strategy ";
  EXPECT_THAT(output(fsdp + "optim_grads"), stage("100.0", "50.0", "150.0", "300.1"));
  EXPECT_THAT(output(fsdp + "optim_grads_params"),
              AllOf(stage("25.0", "50.0", "150.0", "225.0"),
                    HasSubstr("DP=2 (FSDP: optim_grads_params), 4 ranks")));
  EXPECT_THAT(output("--use-megatron-fsdp"), HasSubstr("no_shard, nothing is sharded"));
}

TEST(PlanProgram, RefusesContradictingWorldSizesAndAMissingVocabulary) {
  EXPECT_THAT(plan("--world-size 2 --nproc 4").errors,
              HasSubstr("Expected --world-size to be --nproc (4), but got 2"));
  EXPECT_THAT(run_program("plan --num-layers 2 --hidden-size 16 --num-attention-heads 2 "
                          "--seq-length 16")
                  .errors,
              AllOf(HasSubstr("give --vocab-size"), HasSubstr("--tokenizer-model")));
}

// The planned numbers of parameters are those of models that ranks build, by rank and in total.
TEST(LayoutPlan, CountsTheParametersOfTheModel) {
  Options options;
  options.model.vocab_size = 96;
  options.model.make_vocab_size_divisible_by = 8;
  options.model.seq_length = 32;
  options.model.share_embeddings_and_output_weights = false;
  options.model.position_embedding_type = PositionEmbeddingType::rope;
  TransformerConfig& transformer = options.model.transformer;
  transformer.num_layers = 8;
  transformer.hidden_size = 64;
  transformer.num_attention_heads = 4;
  const int64_t whole = plan_layout(options, 1).stages.at(0).parameters;
  transformer.pipeline_model_parallel_size = 4;
  transformer.pipeline.virtual_pipeline_model_parallel_size = 2;
  int64_t parts = 0;
  double share = 0;
  for (const StagePlan& stage : plan_layout(options, 4).stages) {
    parts += stage.parameters;
    share += stage.flops_share;
  }
  EXPECT_EQ(parts, whole);
  EXPECT_NEAR(share, 1, 1e-12);
}

}  // namespace
}  // namespace megatron
