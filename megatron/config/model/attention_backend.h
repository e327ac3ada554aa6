// Which implementation attention runs on: what each can do, which one a call takes, and what
// Transformer Engine's environment variables say about it.
#pragma once

#include <string>

#include "megatron/config/model/transformer_config.h"

namespace megatron {

// What attention is asked for besides causal scores.
struct AttentionDemands {
  bool dropout = false;
  bool window = false;
  bool sinks = false;
  bool packed = false;
  bool mask = false;  // an arbitrary one
  bool bias = false;
  bool cached = false;      // fewer queries than keys
  bool split_keys = false;  // over ranks that each give a block of them

  // What the configuration asks of every call of a layer (numbers from 1).
  static AttentionDemands of_layer(const TransformerConfig& config, int64_t layer_number);
  // Of any layer.
  static AttentionDemands of_model(const TransformerConfig& config);
};

// The demands that `backend` cannot meet, by their options' names and with commas; empty where it
// meets all. `cuda` chooses the device. flash is libtorch's flash attention: without masks, and its
// dropout would not draw our masks. fused is our own operator on a CPU and cuDNN's on a GPU.
// unfused and local hold the scores in full and do everything.
std::string unmet_demands(AttentionBackend backend, const AttentionDemands& demands, bool cuda);

// `backend` itself, or for automatic the fastest that meets the demands. Throws Error where a
// backend that was named does not, saying which do.
AttentionBackend resolve_attention_backend(AttentionBackend backend,
                                           const AttentionDemands& demands, bool cuda);

// Throws Error where NVTE_FLASH_ATTN, NVTE_FUSED_ATTN or NVTE_UNFUSED_ATTN is set against the
// backend (Megatron's table: local 0 0 0, flash 1 0 0, fused 0 1 0, unfused 0 0 1, auto 1 1 1).
void check_attention_environment(AttentionBackend backend);

}  // namespace megatron
