// Multi-token prediction (MTP): layers after the decoder, each of which predicts one token further
// ahead from the hidden states of the previous depth and the embedding of the next known token.
#pragma once

#include "megatron/transformer/multi_token_prediction_layer.h"

namespace megatron {

// The model's embedding: ids and positions [b, s] -> [s, b, h] ([s/tp, b, h] with sequence
// parallelism).
using TokenEmbedding = std::function<at::Tensor(
    const at::Tensor& input_ids, const at::Tensor& position_ids, const ForwardContext& context)>;

inline constexpr const char* kMultiTokenPredictionBlock = "MultiTokenPredictionBlock";
// layer_specs[i]
std::string mtp_layer_slot(int64_t i);

class MultiTokenPredictionBlock : public MegatronModule {
 public:
  // A MultiTokenPredictionBlock spec with one layer per depth, or a single one for a repeated
  // layer, in the slots mtp_layer_slot(0) and so on. Throws Error for another module or number.
  MultiTokenPredictionBlock(const TransformerConfig& config, const ModuleSpec& spec,
                            const LayerOptions& options);

  // The decoder's hidden states [s, b, h] ([s/tp, b, h] with sequence parallelism), its token ids
  // [b, s] and positions [b, s] or [3, b, s] -> hidden states of depths 1 to D, each of the same
  // shape. Depth d reads the tokens rolled left d times.
  std::vector<at::Tensor> forward(at::Tensor hidden_states, at::Tensor input_ids,
                                  at::Tensor position_ids, const TokenEmbedding& embedding,
                                  const LayerInput& input, const ForwardContext& context) const;

  // A single layer with mtp_use_repeated_layer.
  const std::vector<std::shared_ptr<MultiTokenPredictionLayer>>& layers() const { return layers_; }

 private:
  at::Tensor run_layer(int64_t depth, const at::Tensor& hidden_states,
                       const at::Tensor& next_embedding, const LayerInput& input,
                       const ForwardContext& context) const;

  ProcessGroupPtr cp_;  // may be null
  int64_t num_depths_, num_decoder_layers_;
  bool detach_heads_;  // no gradient flows into the decoder's hidden states and the embedding
  // With full recomputation by the method uniform. The method block counts decoder layers only, as
  // in Megatron.
  bool recomputes_layers_;
  std::vector<std::shared_ptr<MultiTokenPredictionLayer>> layers_;
};

}  // namespace megatron
