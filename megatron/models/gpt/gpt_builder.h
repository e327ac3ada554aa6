// Builds the GPT model of a configuration: the one way in, for training, serving and tools.
#pragma once

#include "megatron/models/gpt/gpt_model.h"

namespace megatron {

// The chunks of layers that a rank holds, in order; one but for virtual pipeline stages.
using GPTModelChunks = std::vector<std::shared_ptr<GPTModel>>;

// This rank's chunks in the layout of `groups`, on `device`; the weights are not initialised yet.
// Throws Error where the layers do not share out.
GPTModelChunks build_gpt_model_chunks(const GPTModelConfig& config,
                                      const ProcessGroupCollection& groups, at::Device device);

// The same where that is one. Throws Error where it is not.
std::shared_ptr<GPTModel> build_gpt_model(const GPTModelConfig& config,
                                          const ProcessGroupCollection& groups, at::Device device);

// One chunk by itself.
std::shared_ptr<GPTModel> build_gpt_model_chunk(const GPTModelConfig& config,
                                                const PipelineStage& stage,
                                                const ProcessGroupCollection& groups,
                                                at::Device device);

// Of all chunks, in order.
std::vector<ParameterPtr> parameters_of(const GPTModelChunks& chunks);
ShardedStateDict sharded_state_dict(const GPTModelChunks& chunks);

// initialize_weights of each. Collective over the embedding group.
void initialize_weights(const GPTModelChunks& chunks, uint64_t seed);

// Parameters of the whole model, padding of the vocabulary included.
int64_t count_parameters(const GPTModelConfig& config);

}  // namespace megatron
