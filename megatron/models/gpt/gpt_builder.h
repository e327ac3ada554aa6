// Builds GPT models from their configuration, for training, serving and tools.
#pragma once

#include "megatron/models/gpt/gpt_model.h"

namespace megatron {

// The model chunks of a rank in order: one per virtual pipeline stage.
using GPTModelChunks = std::vector<std::shared_ptr<GPTModel>>;

// Builds this rank's chunks on `device`, with uninitialized weights. Throws Error if the pipeline
// layout does not fit the number of layers.
GPTModelChunks build_gpt_model_chunks(const GPTModelConfig& config,
                                      const ProcessGroupCollection& groups, at::Device device);

// The rank's only chunk. Throws Error if it has several.
std::shared_ptr<GPTModel> build_gpt_model(const GPTModelConfig& config,
                                          const ProcessGroupCollection& groups, at::Device device);

// A single chunk.
std::shared_ptr<GPTModel> build_gpt_model_chunk(const GPTModelConfig& config,
                                                const PipelineStage& stage,
                                                const ProcessGroupCollection& groups,
                                                at::Device device);

// Parameters and state of all chunks, in order.
std::vector<ParameterPtr> parameters_of(const GPTModelChunks& chunks);
ShardedStateDict sharded_state_dict(const GPTModelChunks& chunks);

// Initializes the weights of all chunks. Collective over the embedding group.
void initialize_weights(const GPTModelChunks& chunks, uint64_t seed);

// Number of parameters of the full model, including vocabulary padding.
int64_t count_parameters(const GPTModelConfig& config);

}  // namespace megatron
