// Feed-forward block: linear_fc1, activation (optionally gated), linear_fc2.
#pragma once

#include "megatron/ops/activation.h"
#include "megatron/tensor_parallel/column_parallel_linear.h"
#include "megatron/tensor_parallel/parallel_linear.h"
#include "megatron/tensor_parallel/row_parallel_linear.h"
#include "megatron/transformer/build_arguments.h"
#include "megatron/transformer/feed_forward.h"

namespace megatron {

// The linear layers of an MLP of width f: h -> f (twice f with a gate) and f -> h.
ColumnParallelLinearArguments mlp_fc1_arguments(const TransformerConfig& config, int64_t f);
RowParallelLinearArguments mlp_fc2_arguments(const TransformerConfig& config, int64_t f);

class MLP : public FeedForward {
 public:
  // Slots: linear_fc1, linear_fc2.
  explicit MLP(const BuildArguments& arguments);

  OutputAndBias forward(const at::Tensor& hidden_states,
                        const ForwardContext& context) const override;

 private:
  TransformerConfig config_;
  ActivationOptions activation_;
  std::shared_ptr<ColumnLinear> linear_fc1_;
  std::shared_ptr<RowLinear> linear_fc2_;
};

}  // namespace megatron
