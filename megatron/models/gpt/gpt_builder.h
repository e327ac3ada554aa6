// Builds GPT models from their configuration, for training, serving and tools.
#pragma once

#include "megatron/models/common/model_builder.h"
#include "megatron/models/gpt/gpt_model.h"

namespace megatron {

// The model chunks of a rank in order: one per virtual pipeline stage.
using GPTModelChunks = std::vector<std::shared_ptr<GPTModel>>;
using DistributedGPTModels = std::vector<DistributedModel<GPTModel>>;

// Example:
//   GPTModelConfig model_cfg{.transformer = transformer_cfg, .vocab_size = 32000,
//                            .seq_length = 2048};
//   auto model = GPTModelBuilder(model_cfg).build_model(pg_collection);  // one stage
//   auto models = GPTModelBuilder(model_cfg).build_distributed_models(pg_collection);
class GPTModelBuilder : public ModelBuilder<GPTModel, GPTModelConfig> {
 public:
  // Finalizes its copy of the configuration. Throws Error with every problem that finalize() finds.
  explicit GPTModelBuilder(GPTModelConfig model_config, BuildOptions options = {});

  // Throws Error if vocab_size is not set, and for sizes that differ from those of the groups.
  std::shared_ptr<GPTModel> build_model(const ProcessGroupCollection& pg_collection,
                                        std::optional<bool> pre_process = {},
                                        std::optional<bool> post_process = {},
                                        std::optional<int> vp_stage = {}) const override;

  std::vector<std::string> description() const override;

 protected:
  int num_chunks() const override { return layout_.chunks(); }
  void check_chunk(const GPTModel& model, const ProcessGroupCollection& groups,
                   int chunk) const override;

 private:
  PipelineLayout layout_;
};

// Parameters and state of all chunks, in order.
std::vector<ParameterPtr> parameters_of(const GPTModelChunks& chunks);
ShardedStateDict sharded_state_dict(const GPTModelChunks& chunks);

// Initializes the weights of all chunks. Collective over the embedding group.
void initialize_weights(const GPTModelChunks& chunks, uint64_t seed);

// Number of parameters of the full model, including vocabulary padding.
int64_t count_parameters(const GPTModelConfig& config);
// Those that one token passes: of the experts, the chosen ones.
int64_t count_active_parameters(const GPTModelConfig& config);

}  // namespace megatron
