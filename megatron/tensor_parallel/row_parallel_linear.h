// A linear layer whose input features are partitioned over the tensor-parallel group:
// Y = sum over ranks of X_p W_p^T.
#pragma once

#include "megatron/base/megatron_module.h"
#include "megatron/tensor_parallel/layer_options.h"

namespace megatron {

struct RowParallelLinearArguments {
  int64_t input_size = 0;  // global
  int64_t output_size = 0;
  bool bias = true;
  double init_std = 0.02;
};

class RowParallelLinear : public MegatronModule {
 public:
  RowParallelLinear(const RowParallelLinearArguments& arguments, const LayerOptions& options);

  // input [s, b, input_size/tp] -> [s, b, output_size], or [s/tp, b, output_size] with sequence
  // parallelism. Does not add the bias: the caller fuses it into the next operator (see bias()).
  at::Tensor forward(const at::Tensor& input) const;

  at::Tensor bias() const { return bias_ ? bias_->data : at::Tensor(); }

 private:
  LayerOptions options_;
  ParameterPtr weight_, bias_;
};

}  // namespace megatron
