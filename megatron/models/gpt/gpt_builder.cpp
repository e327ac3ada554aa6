#include "megatron/models/gpt/gpt_builder.h"

#include "megatron/models/gpt/gpt_layer_specs.h"

namespace megatron {

std::shared_ptr<GPTModel> build_gpt_model(const GPTModelConfig& config,
                                          const ProcessGroupCollection& groups, at::Device device) {
  const auto stage =
      PipelineStage::even(config.transformer.num_layers, groups.pp->rank(), groups.pp->size());
  return std::make_shared<GPTModel>(
      config, gpt_layer_local_spec(config.transformer), stage, groups,
      at::TensorOptions().dtype(config.transformer.params_dtype).device(device),
      gpt_mtp_block_local_spec(config.transformer));
}

int64_t count_parameters(const GPTModelConfig& config) {
  // On the meta device: shapes without storage.
  GPTModelConfig whole = config;
  whole.transformer.tensor_model_parallel_size = 1;
  int64_t count = 0;
  for (const auto& parameter :
       build_gpt_model(whole, ProcessGroupCollection::single_rank(), at::kMeta)->parameters()) {
    count += parameter->data.numel();
  }
  return count;
}

}  // namespace megatron
