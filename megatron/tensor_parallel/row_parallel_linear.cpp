#include "megatron/tensor_parallel/row_parallel_linear.h"

#include "megatron/base/integer_math.h"
#include "megatron/ops/matmul/linear.h"
#include "megatron/parallel/collectives.h"
#include "megatron/tensor_parallel/quantized_linear_function.h"
#include "megatron/tensor_parallel/row_parallel_linear_function.h"

namespace megatron {

RowParallelLinear::RowParallelLinear(const RowParallelLinearArguments& arguments,
                                     const LayerOptions& options)
    : options_(options),
      overlap_(
          options.overlap_of(arguments.tp_comm_buffer_name, LinearOverlap::of_row_parallel())) {
  const int64_t input_size_p =
      divide(arguments.input_size, options.tp->size(), "the input size of a row-parallel layer");
  weight_ = register_parameter(
      "weight", std::make_shared<Parameter>(
                    std::vector<int64_t>{arguments.output_size, input_size_p}, options.tensor,
                    options.sharding(/*dim=*/1), Initialization::normal(arguments.init_std)));
  if (arguments.bias) {
    bias_ = register_parameter(
        "bias",
        std::make_shared<Parameter>(std::vector<int64_t>{arguments.output_size}, options.tensor,
                                    options.sharding(), Initialization::constant(0)));
    bias_->sequence_parallel = options.sequence_parallel;
  }
  quantizer_ = make_linear_quantizer(WeightPartition::row, options);
  if (quantizer_ && quantizer_->state()) register_parameter("fp8_state", quantizer_->state());
}

at::Tensor RowParallelLinear::forward(const at::Tensor& input) const {
  const Parameter weight = options_.cast(*weight_);
  if (!quantizer_ && options_.sequence_parallel && options_.tp_comm_overlap &&
      options_.tp->size() > 1)
    return overlapped_row_parallel_linear(options_.cast(input), weight, *options_.tp, overlap_);
  const at::Tensor x = options_.cast(input);
  const at::Tensor partial = quantizer_ ? quantized_linear(x, weight, /*bias=*/{}, quantizer_)
                                        : linear(x, weight.data, /*bias=*/{}, weight.main_grad);
  return options_.sequence_parallel
             ? reduce_scatter_to_sequence_parallel_region(partial, *options_.tp)
             : reduce_from_tensor_model_parallel_region(partial, *options_.tp);
}

}  // namespace megatron
