#include "megatron/tensor_parallel/replicated_linear.h"

#include "megatron/ops/matmul/linear.h"
#include "megatron/tensor_parallel/quantized_linear_function.h"

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
  quantizer_ = make_linear_quantizer(WeightPartition::none, options);
  if (quantizer_ && quantizer_->state()) register_parameter("fp8_state", quantizer_->state());
}

at::Tensor ReplicatedLinear::forward(const at::Tensor& input) const {
  if (quantizer_)
    return quantized_linear(options_.cast(input), options_.cast(*weight_), /*bias=*/{}, quantizer_);
  return linear(options_.cast(input), options_.cast(weight_->data), /*bias=*/{},
                weight_->main_grad);
}

}  // namespace megatron
