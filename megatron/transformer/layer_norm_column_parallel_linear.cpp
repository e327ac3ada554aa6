#include "megatron/transformer/layer_norm_column_parallel_linear.h"

#include "megatron/base/error.h"
#include "megatron/tensor_parallel/norm_column_parallel_linear_function.h"
#include "megatron/tensor_parallel/quantized_linear_function.h"

namespace megatron {

LayerNormColumnParallelLinear::LayerNormColumnParallelLinear(
    const TransformerConfig& config, const ColumnParallelLinearArguments& arguments,
    const LayerOptions& options)
    : options_(options),
      overlap_(
          options.overlap_of(arguments.tp_comm_buffer_name, LinearOverlap::of_column_parallel())),
      skip_bias_add_(arguments.skip_bias_add),
      norm_(config, {arguments.input_size}, options) {
  check(!arguments.gather_output && arguments.allocate_weight &&
            !arguments.weight_gradient_deferral_limit,
        "Expected a sharded output, an own weight and no deferred weight gradients with "
        "TELayerNormColumnParallelLinear, but got others; TEColumnParallelLinear has them");
  register_parameter("layer_norm_weight", norm_.weight);
  if (norm_.bias) register_parameter("layer_norm_bias", norm_.bias);
  const ColumnParallelParameters parameters(arguments, options);
  weight_ = register_parameter("weight", parameters.weight);
  if (parameters.bias) bias_ = register_parameter("bias", parameters.bias);
  quantizer_ = make_linear_quantizer(WeightPartition::column, options);
  if (quantizer_ && quantizer_->state()) register_parameter("fp8_state", quantizer_->state());
}

ColumnLinear::Output LayerNormColumnParallelLinear::run(const at::Tensor& input,
                                                        bool returns_normed) const {
  if (quantizer_) {
    // The norm and the product are operators of their own: the product quantises the norm's output.
    const at::Tensor normed = normalized(input);
    return {quantized_column_parallel_linear(options_.cast(normed), options_.cast(*weight_),
                                             skip_bias_add_ ? at::Tensor() : bias(), options_,
                                             quantizer_),
            returns_normed ? normed : at::Tensor()};
  }
  // Under autocast the input stays as it is where it is wider: the norm reads it in full.
  const at::Tensor norm_weight = options_.cast(norm_.weight->data);
  const at::Tensor norm_bias = options_.cast(norm_.shift());
  const NormColumnParallelOutput result = norm_column_parallel_linear(
      input, norm_weight, norm_bias, options_.cast(*weight_),
      skip_bias_add_ ? at::Tensor() : bias(), norm_.options,
      {.tp = options_.tp.get(),
       .sequence_parallel = options_.sequence_parallel,
       .all_gather_input_in_backward = options_.all_gather_input_in_backward,
       .tp_comm_overlap = options_.tp_comm_overlap,
       .overlap = overlap_},
      returns_normed);
  return {result.output, result.normed};
}

}  // namespace megatron
