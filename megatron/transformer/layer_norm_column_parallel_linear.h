// A norm fused into the column-parallel linear layer that consumes it: one module and one operator
// (Megatron's TELayerNormColumnParallelLinear).
#pragma once

#include "megatron/tensor_parallel/column_parallel_linear.h"
#include "megatron/transformer/norm.h"

namespace megatron {

class LayerNormColumnParallelLinear : public ColumnLinear {
 public:
  // Parameters layer_norm_weight, layer_norm_bias (if the norm has one), weight, bias. Throws Error
  // for gather_output, and unless the layer allocates its weight.
  LayerNormColumnParallelLinear(const TransformerConfig& config,
                                const ColumnParallelLinearArguments& arguments,
                                const LayerOptions& options);

  // The input in the parameters' dtype or wider (with autocast: in any). Keeps no normalized
  // activations for backward; see norm_column_parallel_linear().
  at::Tensor forward(const at::Tensor& input) const override {
    return run(input, /*returns_normed=*/false).output;
  }
  Output forward_with_normed(const at::Tensor& input) const override {
    return run(input, /*returns_normed=*/true);
  }
  at::Tensor normalized(const at::Tensor& input) const override {
    return norm_.normalize(input, options_);
  }

  const NormParameters& norm() const { return norm_; }
  const ParameterPtr& weight() const override { return weight_; }
  const LinearOverlap& overlap() const { return overlap_; }
  const ParameterPtr& bias_parameter() const { return bias_; }  // null if there is none
  at::Tensor bias() const override { return bias_ ? options_.cast(bias_->data) : at::Tensor(); }

 private:
  Output run(const at::Tensor& input, bool returns_normed) const;

  LayerOptions options_;
  LinearOverlap overlap_;
  bool skip_bias_add_;
  NormParameters norm_;
  ParameterPtr weight_, bias_;
};

}  // namespace megatron
