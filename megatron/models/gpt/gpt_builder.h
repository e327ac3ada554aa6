// Builds the GPT model of a configuration: the one way in, for training, serving and tools.
#pragma once

#include "megatron/models/gpt/gpt_model.h"

namespace megatron {

// This rank's stage in the layout of `groups`, on `device`; the weights are not initialised yet.
std::shared_ptr<GPTModel> build_gpt_model(const GPTModelConfig& config,
                                          const ProcessGroupCollection& groups, at::Device device);

// Parameters of the whole model, padding of the vocabulary included.
int64_t count_parameters(const GPTModelConfig& config);

}  // namespace megatron
