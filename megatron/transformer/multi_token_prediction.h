// The prediction layers behind the decoder: each predicts one token further ahead, from the hidden
// states of the depth before and the tokens known by then.
#pragma once

#include "megatron/transformer/multi_token_prediction_layer.h"

namespace megatron {

// One spec for every depth; a single one where the layer is repeated.
struct MultiTokenPredictionBlockSubmodules {
  std::vector<MultiTokenPredictionLayerSubmodules> layers;
};

// The model's embedding: ids and positions [b, s] -> [s, b, h] ([s/tp, b, h] with sequence
// parallelism).
using TokenEmbedding = std::function<at::Tensor(
    const at::Tensor& input_ids, const at::Tensor& position_ids, const ForwardContext& context)>;

class MultiTokenPredictionBlock : public MegatronModule {
 public:
  // Throws Error where the specs are not as many as the configuration's depths.
  MultiTokenPredictionBlock(const TransformerConfig& config,
                            const MultiTokenPredictionBlockSubmodules& submodules,
                            const LayerOptions& options);

  // The decoder's hidden states [s, b, h] ([s/tp, b, h] with sequence parallelism) and the tokens
  // that it read, ids [b, s] with positions [b, s] or [3, b, s] -> the hidden states of depths 1 to
  // D, each of the same shape. At depth d the tokens are rolled left d times.
  std::vector<at::Tensor> forward(at::Tensor hidden_states, at::Tensor input_ids,
                                  at::Tensor position_ids, const TokenEmbedding& embedding,
                                  const LayerInput& input, const ForwardContext& context) const;

  // One where the layer is repeated.
  const std::vector<std::shared_ptr<MultiTokenPredictionLayer>>& layers() const { return layers_; }

 private:
  ProcessGroupPtr cp_;  // who shares a sequence, or null
  int64_t num_depths_, num_decoder_layers_;
  bool detach_heads_;  // nothing flows back into hidden states and embedding
  bool recomputes_;    // each layer in backward: full recomputation by the method uniform; block
                       // counts the decoder's layers alone, as in Megatron
  std::vector<std::shared_ptr<MultiTokenPredictionLayer>> layers_;
};

}  // namespace megatron
