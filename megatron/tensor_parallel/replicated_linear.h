// A linear layer that is replicated on every tensor-parallel rank: Y = X W^T, without bias and
// without communication (Megatron's parallel_mode "duplicated"). For projections to few features:
// partitioning them would cost a reduction of the input gradient.
#pragma once

#include "megatron/base/megatron_module.h"
#include "megatron/tensor_parallel/layer_options.h"
#include "megatron/tensor_parallel/parallel_linear.h"

namespace megatron {

struct ReplicatedLinearArguments {
  int64_t input_size = 0;
  int64_t output_size = 0;
  double init_std = 0.02;
};

class ReplicatedLinear : public MegatronModule, public QuantizableLayer {
 public:
  ReplicatedLinear(const ReplicatedLinearArguments& arguments, const LayerOptions& options);

  // input [s, b, input_size] -> [s, b, output_size]. With sequence parallelism both are sequence
  // shards [s/tp, b, ...], and the weight is marked so that its gradient is summed over the ranks.
  at::Tensor forward(const at::Tensor& input) const;

 private:
  LayerOptions options_;
  ParameterPtr weight_;
};

}  // namespace megatron
