// Mixture of experts, with the names of Megatron's TransformerConfig. Shape legend: e experts, k
// experts per token, t tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <c10/core/ScalarType.h>

namespace megatron {

enum class MoeRouterScoreFunction { softmax, sigmoid, sqrtsoftplus };
enum class MoeTokenDispatcherType { allgather, alltoall };
// Which tokens an expert keeps if more choose it than its capacity: those of the highest
// probability, or the first ones.
enum class MoeTokenDropPolicy { probs, position };

struct MoeConfig {
  std::optional<int64_t> num_moe_experts;  // e; not set: a dense model
  // Layers with experts: {N} every Nth layer from the first, or one 0 or 1 per layer.
  std::vector<int64_t> moe_layer_freq = {1};
  std::optional<int64_t> moe_ffn_hidden_size;  // of an expert; default: ffn_hidden_size
  // Experts that every token passes: total width; not set: none.
  std::optional<int64_t> moe_shared_expert_intermediate_size;
  bool moe_shared_expert_gate = false;     // a sigmoid gate on the shared experts' output
  bool moe_shared_expert_overlap = false;  // they run while tokens are dispatched

  // Router.
  int64_t moe_router_topk = 2;  // k
  bool moe_router_pre_softmax = false;
  std::optional<double> moe_router_topk_scaling_factor;
  MoeRouterScoreFunction moe_router_score_function = MoeRouterScoreFunction::softmax;
  std::optional<at::ScalarType> moe_router_dtype;  // of the logits; default: that of activations
  // Group-limited choice: the experts form groups, of which group_topk stay.
  std::optional<int64_t> moe_router_num_groups, moe_router_group_topk;
  // A bias that steers the choice but not the probabilities, moved after each step by the sign of
  // the load (Wang et al., 2024).
  bool moe_router_enable_expert_bias = false;
  double moe_router_bias_update_rate = 1e-3;
  bool moe_router_force_load_balancing = false;  // for benchmarks: every expert gets as many tokens
  std::optional<double> moe_input_jitter_eps;
  // Pads the rows of each expert to this multiple, for low precision. Megatron's flag is a bool.
  std::optional<int64_t> moe_router_padding_for_quantization;

  // Losses: aux_loss, seq_aux_loss, global_aux_loss (one coefficient each), or sinkhorn, or none.
  std::vector<std::string> moe_router_load_balancing_type = {"aux_loss"};
  std::vector<double> moe_aux_loss_coeff = {0};
  std::optional<double> moe_z_loss_coeff;

  // Dispatch.
  MoeTokenDispatcherType moe_token_dispatcher_type = MoeTokenDispatcherType::allgather;
  std::optional<double> moe_expert_capacity_factor;  // not set: no token is dropped
  bool moe_pad_expert_input_to_capacity = false;
  MoeTokenDropPolicy moe_token_drop_policy = MoeTokenDropPolicy::probs;

  // Experts.
  bool moe_grouped_gemm = false;  // one checkpoint tensor for all experts of a layer
  bool moe_apply_probs_on_input = false;
  std::optional<int64_t> expert_tensor_parallel_size;  // ETP; default: TP
  bool overlap_moe_expert_parallel_comm = false;
  bool delay_wgrad_compute = false;

  // Record and replay of the router's choices, and upcycling of a dense checkpoint.
  std::string moe_router_record, moe_router_replay;  // folders
  bool moe_use_upcycling = false;
  int64_t moe_upcycling_granularity = 1;

  bool has_experts() const { return num_moe_experts.has_value(); }
  // Whether the layer has experts; `layer_number` counts from 1.
  bool is_moe_layer(int64_t layer_number) const;
  // Whether a loss or method is among moe_router_load_balancing_type.
  bool balances_by(std::string_view type) const;
  // Its coefficient; 0 if it is not selected.
  double aux_loss_coeff(std::string_view type) const;
  // Whether any loss has a coefficient.
  bool has_aux_loss() const;
};

}  // namespace megatron
