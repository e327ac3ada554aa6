// Feed-forward block: linear_fc1, activation (optionally gated), linear_fc2.
#pragma once

#include "megatron/config/model/transformer_config.h"
#include "megatron/tensor_parallel/column_parallel_linear.h"
#include "megatron/tensor_parallel/row_parallel_linear.h"
#include "megatron/transformer/output_and_bias.h"

namespace megatron {

class MLP : public MegatronModule {
 public:
  MLP(const TransformerConfig& config, const LayerOptions& options);

  // hidden_states [s, b, h] -> [s, b, h].
  OutputAndBias forward(const at::Tensor& hidden_states) const;

 private:
  at::Tensor activate(const at::Tensor& x) const;

  TransformerConfig config_;
  std::shared_ptr<ColumnParallelLinear> linear_fc1_;
  std::shared_ptr<RowParallelLinear> linear_fc2_;
};

}  // namespace megatron
