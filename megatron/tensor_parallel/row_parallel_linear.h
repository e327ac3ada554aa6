// A linear layer whose input features are partitioned over the tensor-parallel group:
// Y = sum over ranks of X_p W_p^T.
#pragma once

#include "megatron/tensor_parallel/layer_options.h"
#include "megatron/tensor_parallel/parallel_linear.h"

namespace megatron {

struct RowParallelLinearArguments {
  int64_t input_size = 0;  // global
  int64_t output_size = 0;
  bool bias = true;
  double init_std = 0.02;
  std::string tp_comm_buffer_name = {};  // of the layer's overlaps in tp_comm_overlap_cfg
};

class RowParallelLinear : public RowLinear {
 public:
  RowParallelLinear(const RowParallelLinearArguments& arguments, const LayerOptions& options);

  at::Tensor forward(const at::Tensor& input) const override;
  const ParameterPtr& weight() const { return weight_; }
  const LinearOverlap& overlap() const { return overlap_; }
  at::Tensor bias() const override { return bias_ ? options_.cast(bias_->data) : at::Tensor(); }

 private:
  LayerOptions options_;
  LinearOverlap overlap_;
  ParameterPtr weight_, bias_;
};

}  // namespace megatron
