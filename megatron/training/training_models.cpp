#include "megatron/training/training_models.h"

#include <fmt/format.h>

#include "megatron/models/common/builder_registry.h"

namespace megatron {

DistributedModelArguments distributed_arguments(const Options& options) {
  return {.ddp_config = options.ddp,
          .overlap_param_gather_with_optimizer_step =
              options.optimizer.overlap_param_gather_with_optimizer_step,
          .data_parallel_random_init = false};
}

DistributedGPTModels build_training_models(
    const Options& options, const ProcessGroupCollection& groups, const RankContext& rank,
    const std::function<void(const GPTModelChunks&)>& initialize) {
  GPTModelConfig config = options.model;
  if (initialize) {
    config.transformer.perform_initialization = false;
    config.pre_wrap_hooks.push_back([&initialize](const ModelChunks& chunks) {
      GPTModelChunks models;
      for (const ModelChunk& chunk : chunks)
        models.push_back(std::dynamic_pointer_cast<GPTModel>(chunk.module));
      initialize(models);
      return std::optional(chunks);
    });
  }
  BuildOptions build{.device = rank.device, .seed = uint64_t(options.training.seed)};
  if (options.logging.verbose)
    build.logger = [](const std::string& line) { fmt::print(stderr, "{}\n", line); };
  return make_builder<GPTModel>(std::move(config), std::move(build))
      ->build_distributed_models(groups, distributed_arguments(options));
}

GPTModelChunks build_inference_models(const Options& options, const ProcessGroupCollection& groups,
                                      const RankContext& rank) {
  GPTModelConfig config = options.model;
  config.transformer.perform_initialization = false;
  return modules_of(make_builder<GPTModel>(std::move(config), BuildOptions{.device = rank.device})
                        ->build_distributed_models(groups, {.wrap_with_ddp = false}));
}

}  // namespace megatron
