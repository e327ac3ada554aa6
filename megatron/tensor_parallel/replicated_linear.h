// A linear layer that every tensor-parallel rank holds whole: Y = X W^T, without bias and without
// communication (Megatron's parallel_mode "duplicated"). For projections onto few features, where
// splitting would cost an exchange of the input's gradient.
#pragma once

#include "megatron/base/megatron_module.h"
#include "megatron/tensor_parallel/layer_options.h"

namespace megatron {

struct ReplicatedLinearArguments {
  int64_t input_size = 0;
  int64_t output_size = 0;
  double init_std = 0.02;
};

class ReplicatedLinear : public MegatronModule {
 public:
  ReplicatedLinear(const ReplicatedLinearArguments& arguments, const LayerOptions& options);

  // input [s, b, input_size] -> [s, b, output_size]; with sequence parallelism this rank's [s/tp,
  // b,
  // ...] of both, and the ranks' weight gradients are summed.
  at::Tensor forward(const at::Tensor& input) const;

 private:
  ParameterPtr weight_;
};

}  // namespace megatron
