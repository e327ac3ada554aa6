#include "megatron/tensor_parallel/column_parallel_linear.h"

#include "megatron/base/error.h"
#include "megatron/ops/linear.h"
#include "megatron/ops/recompute.h"
#include "megatron/parallel/collectives.h"

namespace megatron {

int64_t divide(int64_t numerator, int64_t denominator, const char* what) {
  check(numerator % denominator == 0, "Expected {} to be a multiple of {}, but got {}; {} works",
        what, denominator, numerator, (numerator / denominator + 1) * denominator);
  return numerator / denominator;
}

ColumnParallelLinear::ColumnParallelLinear(const ColumnParallelLinearArguments& arguments,
                                           const LayerOptions& options)
    : options_(options),
      gather_output_(arguments.gather_output),
      skip_bias_add_(arguments.skip_bias_add) {
  const int64_t output_size_p = divide(arguments.output_size, options.tp->size(),
                                       "the output size of a column-parallel layer");
  const auto sharding = options.sharding(/*dim=*/0, arguments.stride);
  if (arguments.allocate_weight) {
    weight_ = register_parameter(
        "weight", std::make_shared<Parameter>(
                      std::vector<int64_t>{output_size_p, arguments.input_size}, options.tensor,
                      sharding, Initialization::normal(arguments.init_std)));
  }
  if (arguments.bias) {
    bias_ = register_parameter(
        "bias", std::make_shared<Parameter>(std::vector<int64_t>{output_size_p}, options.tensor,
                                            sharding, Initialization::constant(0)));
  }
}

at::Tensor ColumnParallelLinear::forward(const at::Tensor& input,
                                         const ParameterPtr& weight) const {
  return forward(input, weight, gather_output_);
}

at::Tensor ColumnParallelLinear::forward(const at::Tensor& input, const ParameterPtr& weight,
                                         bool gather_output) const {
  const ParameterPtr& used = weight ? weight : weight_;
  check(used != nullptr,
        "Expected a weight for a column-parallel layer that holds none, but got none");
  const auto whole = [this](const Tensors& list) {
    return Tensors{options_.sequence_parallel
                       ? gather_from_sequence_parallel_region(list[0], *options_.tp)
                       : copy_to_tensor_model_parallel_region(list[0], *options_.tp)};
  };
  const Recomputation whole_sequence(options_.sequence_parallel && options_.regathers_input, whole,
                                     {input});
  const at::Tensor output = linear(whole_sequence.outputs()[0], used->data,
                                   skip_bias_add_ ? at::Tensor() : bias(), used->main_grad);
  whole_sequence.discard_outputs(/*result=*/output);
  return gather_output ? gather_from_tensor_model_parallel_region(output, *options_.tp) : output;
}

}  // namespace megatron
