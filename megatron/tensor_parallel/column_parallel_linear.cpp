#include "megatron/tensor_parallel/column_parallel_linear.h"

#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"
#include "megatron/parallel/collectives.h"
#include "megatron/tensor_parallel/column_parallel_linear_function.h"
#include "megatron/tensor_parallel/quantized_linear_function.h"

namespace megatron {

ColumnParallelParameters::ColumnParallelParameters(const ColumnParallelLinearArguments& arguments,
                                                   const LayerOptions& options) {
  const int64_t output_size_p = divide(arguments.output_size, options.tp->size(),
                                       "the output size of a column-parallel layer");
  const auto sharding = options.sharding(/*dim=*/0, arguments.stride);
  if (arguments.allocate_weight) {
    weight = std::make_shared<Parameter>(std::vector<int64_t>{output_size_p, arguments.input_size},
                                         options.tensor, sharding,
                                         Initialization::normal(arguments.init_std));
  }
  if (arguments.bias) {
    bias = std::make_shared<Parameter>(std::vector<int64_t>{output_size_p}, options.tensor,
                                       sharding, Initialization::constant(0));
  }
}

ColumnParallelLinear::ColumnParallelLinear(const ColumnParallelLinearArguments& arguments,
                                           const LayerOptions& options)
    : options_(options),
      overlap_(
          options.overlap_of(arguments.tp_comm_buffer_name, LinearOverlap::of_column_parallel())),
      gather_output_(arguments.gather_output),
      skip_bias_add_(arguments.skip_bias_add) {
  const ColumnParallelParameters parameters(arguments, options);
  if (parameters.weight) weight_ = register_parameter("weight", parameters.weight);
  if (parameters.bias) bias_ = register_parameter("bias", parameters.bias);
  if (arguments.weight_gradient_deferral_limit) {
    deferred_ =
        std::make_unique<DeferredWeightGradients>(*arguments.weight_gradient_deferral_limit);
  }
  quantizer_ = make_linear_quantizer(WeightPartition::column, options);
  if (quantizer_ && quantizer_->state()) register_parameter("fp8_state", quantizer_->state());
}

at::Tensor ColumnParallelLinear::forward(const at::Tensor& input) const {
  return forward(input, /*weight=*/nullptr, gather_output_);
}

at::Tensor ColumnParallelLinear::forward(const at::Tensor& input, const ParameterPtr& weight,
                                         bool gather_output) const {
  const ParameterPtr& used = weight ? weight : weight_;
  check(used != nullptr,
        "Expected a weight for a column-parallel layer that allocates none, but got none");
  const at::Tensor x = options_.cast(input), added = skip_bias_add_ ? at::Tensor() : bias();
  const at::Tensor output =
      quantizer_
          ? quantized_column_parallel_linear(x, options_.cast(*used), added, options_, quantizer_)
          : column_parallel_linear(
                x, options_.cast(*used), added,
                {.tp = options_.tp.get(),
                 .sequence_parallel = options_.sequence_parallel,
                 .all_gather_input_in_backward = options_.all_gather_input_in_backward,
                 .tp_comm_overlap = options_.tp_comm_overlap,
                 .overlap = overlap_,
                 .deferred = deferred_.get()});
  return gather_output ? gather_from_tensor_model_parallel_region(output, *options_.tp) : output;
}

}  // namespace megatron
