// Models for tests, built as the program builds them.
#pragma once

#include "megatron/models/gpt/gpt_builder.h"

namespace megatron {

// The rank's only chunk, with uninitialized weights.
inline std::shared_ptr<GPTModel> build_gpt_model(GPTModelConfig config,
                                                 const ProcessGroupCollection& groups,
                                                 at::Device device) {
  config.transformer.perform_initialization = false;
  return GPTModelBuilder(std::move(config), {.device = device}).build_model(groups);
}

// All chunks of the rank, with uninitialized weights.
inline GPTModelChunks build_gpt_model_chunks(GPTModelConfig config,
                                             const ProcessGroupCollection& groups,
                                             at::Device device) {
  config.transformer.perform_initialization = false;
  return modules_of(GPTModelBuilder(std::move(config), {.device = device})
                        .build_distributed_models(
                            groups, {.wrap_with_ddp = false, .mixed_precision_wrapper = {}}));
}

}  // namespace megatron
