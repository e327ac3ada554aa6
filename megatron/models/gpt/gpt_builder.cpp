#include "megatron/models/gpt/gpt_builder.h"

#include "megatron/base/error.h"
#include "megatron/config/model/model_checks.h"
#include "megatron/models/gpt/gpt_layer_specs.h"

namespace megatron {
namespace {

// The configuration and the groups must agree: layers are split by one, weights by the other.
void check_group_size(const char* field, int64_t size, const ProcessGroupPtr& group) {
  const int64_t ranks = group ? group->size() : 1;
  check(size == ranks, "Expected {} to be the size of its process group ({}), but got {}", field,
        ranks, size);
}

}  // namespace

GPTModelChunks build_gpt_model_chunks(const GPTModelConfig& config,
                                      const ProcessGroupCollection& groups, at::Device device) {
  check_model(config);
  const TransformerConfig& transformer = config.transformer;
  check_group_size("pipeline_model_parallel_size", transformer.pipeline_model_parallel_size,
                   groups.pp);
  check_group_size("context_parallel_size", transformer.context_parallel_size, groups.cp);
  const PipelineLayout layout = PipelineLayout::of(transformer);
  GPTModelChunks chunks;
  for (int chunk = 0; chunk < layout.chunks(); ++chunk) {
    chunks.push_back(build_gpt_model_chunk(
        config, PipelineStage::of(layout, groups.pp->rank(), chunk), groups, device));
  }
  return chunks;
}

std::shared_ptr<GPTModel> build_gpt_model(const GPTModelConfig& config,
                                          const ProcessGroupCollection& groups, at::Device device) {
  const GPTModelChunks chunks = build_gpt_model_chunks(config, groups, device);
  check(chunks.size() == 1,
        "Expected one model chunk on this rank, but got {} virtual pipeline stages; "
        "build_gpt_model_chunks() returns all of them",
        chunks.size());
  return chunks.front();
}

std::vector<ParameterPtr> parameters_of(const GPTModelChunks& chunks) {
  std::vector<ParameterPtr> parameters;
  for (const auto& chunk : chunks) {
    for (const ParameterPtr& parameter : chunk->parameters()) parameters.push_back(parameter);
  }
  return parameters;
}

ShardedStateDict sharded_state_dict(const GPTModelChunks& chunks) {
  ShardedStateDict state;
  for (const auto& chunk : chunks) {
    for (ShardedTensor& tensor : chunk->sharded_state_dict()) state.push_back(std::move(tensor));
  }
  return state;
}

void initialize_weights(const GPTModelChunks& chunks, uint64_t seed) {
  for (const auto& chunk : chunks) initialize_weights(*chunk, seed);
}

std::shared_ptr<GPTModel> build_gpt_model_chunk(const GPTModelConfig& config,
                                                const PipelineStage& stage,
                                                const ProcessGroupCollection& groups,
                                                at::Device device) {
  return std::make_shared<GPTModel>(
      config, gpt_layer_local_spec(config.transformer), stage, groups,
      at::TensorOptions().dtype(config.transformer.params_dtype).device(device),
      gpt_mtp_block_local_spec(config.transformer));
}

int64_t count_parameters(const GPTModelConfig& config) {
  // On the meta device, which allocates no storage.
  GPTModelConfig unsharded = config;
  unsharded.reset_layout();
  int64_t count = 0;
  for (const auto& parameter :
       build_gpt_model(unsharded, ProcessGroupCollection::single_rank(), at::kMeta)->parameters()) {
    count += parameter->data.numel();
  }
  return count;
}

}  // namespace megatron
