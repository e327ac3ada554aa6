// Attention backends: the features that each supports, the choice of a backend for a call, and
// Transformer Engine's environment variables.
#pragma once

#include <string>

#include "megatron/config/model/transformer_config.h"

namespace megatron {

// Features that a call needs besides causal attention.
struct AttentionDemands {
  bool dropout = false;
  bool window = false;
  bool sinks = false;
  bool soft_cap = false;
  bool packed = false;
  bool mask = false;  // arbitrary mask
  bool bias = false;
  bool cached = false;      // more keys than queries
  bool split_keys = false;  // keys sharded over context-parallel ranks

  // Features that every call of a layer needs; `layer_number` counts from 1.
  static AttentionDemands of_layer(const TransformerConfig& config, int64_t layer_number);
  // Features that at least one layer needs.
  static AttentionDemands of_model(const TransformerConfig& config);
};

// The demands that `backend` does not support, separated by commas and named by their fields; empty
// if it supports all. flash is libtorch's flash attention: it takes no mask, and its dropout cannot
// draw our masks. fused is our own operator on a CPU and cuDNN's on a GPU. unfused and local
// materialize the scores and support everything.
std::string unmet_demands(AttentionBackend backend, const AttentionDemands& demands, bool cuda);

// Returns `backend`, or for automatic the fastest backend that supports the demands. Throws Error
// if an explicit backend does not, naming those that do.
AttentionBackend resolve_attention_backend(AttentionBackend backend,
                                           const AttentionDemands& demands, bool cuda);

// Throws Error if NVTE_FLASH_ATTN, NVTE_FUSED_ATTN or NVTE_UNFUSED_ATTN contradicts the backend
// (Megatron's table: local 0 0 0, flash 1 0 0, fused 0 1 0, unfused 0 0 1, auto 1 1 1).
void check_attention_environment(AttentionBackend backend);

}  // namespace megatron
