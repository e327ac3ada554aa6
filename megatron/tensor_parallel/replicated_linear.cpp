#include "megatron/tensor_parallel/replicated_linear.h"

#include "megatron/ops/matmul/linear.h"

namespace megatron {

ReplicatedLinear::ReplicatedLinear(const ReplicatedLinearArguments& arguments,
                                   const LayerOptions& options)
    : options_(options) {
  weight_ = register_parameter(
      "weight",
      std::make_shared<Parameter>(std::vector<int64_t>{arguments.output_size, arguments.input_size},
                                  options.tensor, options.sharding(),
                                  Initialization::normal(arguments.init_std)));
  weight_->sequence_parallel = options.sequence_parallel;
}

at::Tensor ReplicatedLinear::forward(const at::Tensor& input) const {
  return linear(options_.cast(input), options_.cast(weight_->data), /*bias=*/{},
                weight_->main_grad);
}

}  // namespace megatron
