// The MLP with its norm as one operator (use_transformer_engine_op_fuser; Megatron's TEFusedMLP).
// Its parameters have the names of an MLP whose linear_fc1 is a LayerNormColumnParallelLinear, so
// checkpoints fit both.
#pragma once

#include "megatron/tensor_parallel/fused_mlp.h"
#include "megatron/tensor_parallel/row_parallel_linear.h"
#include "megatron/transformer/build_arguments.h"
#include "megatron/transformer/feed_forward.h"
#include "megatron/transformer/layer_norm_column_parallel_linear.h"

namespace megatron {

class TEFusedMLP : public FeedForward {
 public:
  // Slots: linear_fc1, linear_fc2. Throws Error unless they hold a LayerNormColumnParallelLinear and
  // a RowParallelLinear, and for apply_residual_connection_post_layernorm: the operator has no
  // normalized input to return.
  explicit TEFusedMLP(const BuildArguments& arguments);

  OutputAndBias forward(const at::Tensor& hidden_states,
                        const ForwardContext& context) const override;

 private:
  ProcessGroupPtr tp_;
  bool recomputes_;
  std::shared_ptr<LayerNormColumnParallelLinear> linear_fc1_;
  std::shared_ptr<RowParallelLinear> linear_fc2_;
  FusedMlpParameters parameters_;
  FusedMlpOptions options_;
};

}  // namespace megatron
