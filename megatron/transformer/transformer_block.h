// The transformer layers of one chunk of a pipeline stage, followed by the final norm where the
// chunk holds it.
#pragma once

#include "megatron/transformer/base_transformer_layer.h"
#include "megatron/transformer/build_arguments.h"
#include "megatron/transformer/norm.h"
#include "megatron/transformer/pipeline_stage.h"

namespace megatron {

// The layers of a chunk. A spec of one layer is repeated; a block spec has one layer spec per layer
// of the chunk, or one per layer of the model, of which the chunk takes its own. Throws Error for
// another number.
TransformerBlockSubmodules block_submodules(const LayerSpec& spec, const TransformerConfig& config,
                                            const PipelineStage& stage);

class TransformerBlock : public MegatronModule {
 public:
  // `spec` as for block_submodules().
  TransformerBlock(const TransformerConfig& config, const LayerSpec& spec,
                   const PipelineStage& stage, const LayerOptions& options);

  // hidden_states [s, b, h] ([s/tp, b, h] with sequence parallelism) -> the same shape.
  at::Tensor forward(at::Tensor hidden_states, const LayerInput& input,
                     const ForwardContext& context) const;

  // The modules that forward runs, for callers that run them one by one.
  const std::vector<std::shared_ptr<BaseTransformerLayer>>& layers() const { return layers_; }
  const std::shared_ptr<Norm>& final_layernorm() const { return final_layernorm_; }
  // Applies the final norm if this chunk holds it, else returns `hidden_states`.
  at::Tensor normalized(const at::Tensor& hidden_states) const {
    return final_layernorm_ ? final_layernorm_->forward(hidden_states) : hidden_states;
  }

 private:
  // End of the group of layers, from local index `first`, that is recomputed as one; `first` if
  // that layer is not recomputed.
  int64_t recomputed_until(int64_t first) const;

  RecomputeConfig recompute_;
  std::vector<std::shared_ptr<BaseTransformerLayer>> layers_;
  std::shared_ptr<Norm> final_layernorm_;  // null unless this chunk holds it
};

}  // namespace megatron
