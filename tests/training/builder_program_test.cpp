// What the program shows of its builder, and metadata of a configuration in checkpoints.
#include <gmock/gmock.h>

#include "megatron/config/model/model_checks.h"
#include "megatron/training/training_state.h"

#include "tests/training/sharded_run.h"
#include "tests/training/train_program.h"

namespace megatron {
namespace {

using ::testing::HasSubstr;

size_t occurrences(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

TEST_F(TrainProgram, VerboseShowsOnceWhatIsBuilt) {
  for (const char* launch : {"", " --threads-as-ranks"}) {
    const ProgramResult result =
        train(std::string("--verbose --nproc 4 "
                          "--tensor-model-parallel-size 2 --pipeline-model-parallel-size 2") +
              launch);
    ASSERT_EQ(result.status, 0) << result.errors;
    for (const char* chunk :
         {"stage 1 of 2, chunk 1 of 1: layers 1-2", "stage 2 of 2, chunk 1 of 1: "})
      EXPECT_EQ(occurrences(result.errors, std::string("building GPTModel, ") + chunk), 1u);
    for (const char* stage : {"0", "1"}) {
      EXPECT_EQ(occurrences(result.errors, fmt::format("parameters on tensor-parallel rank 1, "
                                                       "pipeline rank {}: ",
                                                       stage)),
                1u);
    }
  }
  const ProgramResult quiet = train("");
  EXPECT_EQ(occurrences(quiet.errors, "building GPTModel"), 0u);
}

class ExtraMetadata : public TrainProgram {};

TEST_F(ExtraMetadata, IsSavedRestoredAndShown) {
  Options options = sharded_options({"one_rank", 1, 1, 1, false}, kPlain, at::kFloat);
  options.model.extra_checkpoint_metadata = {{"origin", "a test"}, {"numbers", {1, 2}}};
  const nlohmann::json metadata = options.model.extra_checkpoint_metadata;
  const auto save = [&](TrainingRun& run, const TrainingProgress& progress, const std::string& to) {
    run.options.checkpoint.save = to;
    save_training_state(run.options, run.rank, {run.model}, run.step->optimizer(), progress, "");
  };
  run_thread_world(1, [&](RankContext& rank) {
    TrainingRun first(options, rank);
    save(first, {.iteration = 1}, path("first"));
    // A run without metadata keeps that of the checkpoint it resumes.
    options.model.extra_checkpoint_metadata = nullptr;
    TrainingRun second(options, rank);
    second.options.checkpoint.load = path("first");
    const TrainingProgress progress =
        load_training_state(second.options, rank, {second.model}, second.step->optimizer(), "",
                            [](const std::string&) {});
    EXPECT_EQ(progress.extra_checkpoint_metadata, metadata);
    save(second, progress, path("second"));
  });
  EXPECT_EQ(CheckpointReader::open(path("second")).common().at("extra_checkpoint_metadata"),
            metadata);
  const ProgramResult inspected = run_program("inspect " + path("second"));
  EXPECT_THAT(inspected.output,
              HasSubstr("extra metadata     {\"numbers\":[1,2],\"origin\":\"a test\"}"));
  options.model.extra_checkpoint_metadata = 3;
  EXPECT_THAT([&] { check_model(options.model); },
              testing::ThrowsMessage<Error>(HasSubstr("Expected an object for extra_checkpoint")));
}

TEST(TrainStepModels, MustBeWrapped) {
  const Options options = sharded_options({"one_rank", 1, 1, 1, false}, kPlain, at::kFloat);
  const auto models = GPTModelBuilder(options.model)
                          .build_distributed_models(ProcessGroupCollection::single_rank(),
                                                    {.wrap_with_ddp = false});
  EXPECT_THAT([&] { TrainStep(models, options); },
              testing::ThrowsMessage<Error>(HasSubstr("Expected models wrapped for data")));
}

Options train_step_options(const Sharding& sharding = kPlain) {
  return sharded_options({"one_rank", 1, 1, 1, false}, sharding, at::kFloat);
}

// Frozen later, a weight would still be in the buffers, and decay.
TEST(TrainStepModels, AreFrozenBeforeTheyAreWrapped) {
  using Strategy = DataParallelShardingStrategy;
  for (const Sharding& sharding :
       {kPlain, Sharding{"optim", Strategy::optim, true},
        Sharding{"torch_fsdp2", Strategy::optim_grads_params, true, false, false, true}}) {
    const Options options = train_step_options(sharding);
    const auto build = [&](const GPTModelConfig& config) {
      return GPTModelBuilder(config).build_distributed_models(ProcessGroupCollection::single_rank(),
                                                              distributed_arguments(options));
    };
    const DistributedGPTModels models = build(options.model);
    EXPECT_NO_THROW(TrainStep(models, options)) << sharding.name;
    const ParameterPtr parameter = models[0].module->output_weight();
    parameter->data.requires_grad_(false);
    EXPECT_THAT([&] { TrainStep(models, options); },
                testing::ThrowsMessage<Error>(testing::AllOf(
                    HasSubstr(parameter->name), HasSubstr("frozen"), HasSubstr("pre_wrap_hooks"))))
        << sharding.name;
    GPTModelConfig frozen = options.model;
    frozen.pre_wrap_hooks = {[](const ModelChunks& chunks) {
      chunks[0].module->parameters().front()->data.requires_grad_(false);
      return std::optional(chunks);
    }};
    const DistributedGPTModels thawed = build(frozen);
    EXPECT_NO_THROW(TrainStep(thawed, options)) << sharding.name;
    thawed[0].module->parameters().front()->data.requires_grad_(true);
    EXPECT_THAT([&] { TrainStep(thawed, options); },
                testing::ThrowsMessage<Error>(HasSubstr("unfrozen")))
        << sharding.name;
  }
}

TEST(TrainStepModels, MustFitTheOptions) {
  const Options options = train_step_options();
  const DistributedGPTModels models =
      GPTModelBuilder(options.model)
          .build_distributed_models(ProcessGroupCollection::single_rank(),
                                    distributed_arguments(options));
  const auto refuses = [&](const std::function<void(Options&)>& change, const char* message) {
    Options other = options;
    change(other);
    EXPECT_THAT([&] { TrainStep(models, other); },
                testing::ThrowsMessage<Error>(HasSubstr(message)));
  };
  refuses([](Options& o) { o.model.transformer.hidden_size *= 2; }, "but got hidden_size");
  refuses([](Options& o) { o.model.seq_length *= 2; }, "but got seq_length");
  refuses([](Options& o) { o.ddp.grad_reduce_in_fp32 = !o.ddp.grad_reduce_in_fp32; },
          "Expected options.ddp");
  refuses([](Options& o) { o.optimizer.overlap_param_gather_with_optimizer_step = true; },
          "Expected overlap_param_gather_with_optimizer_step of the optimizer to be false");
  EXPECT_THAT([&] { TrainStep({}, options); },
              testing::ThrowsMessage<Error>(HasSubstr("Expected the chunks of this rank")));
}

}  // namespace
}  // namespace megatron
