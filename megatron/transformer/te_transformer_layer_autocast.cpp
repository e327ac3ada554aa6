#include "megatron/transformer/te_transformer_layer_autocast.h"

#include "megatron/transformer/layer_specs.h"

namespace megatron {
namespace {

LayerOptions autocast_options(const BuildArguments& arguments) {
  LayerOptions options = arguments.options;
  if (arguments.config.bf16 && options.tensor.dtype() == at::kFloat)
    options.compute_dtype = at::kBFloat16;
  return options;
}

}  // namespace

TETransformerLayerAutocast::TETransformerLayerAutocast(const BuildArguments& arguments)
    : TETransformerLayerAutocast(arguments, {.spec = transformer_layer_spec(
                                                 arguments.config, transformer_engine_backend()),
                                             .options = autocast_options(arguments)}) {}

TETransformerLayerAutocast::TETransformerLayerAutocast(const BuildArguments& arguments,
                                                       const Parts& parts)
    : TransformerLayer({parts.spec, arguments.config, parts.options, arguments.layer_number}) {}

}  // namespace megatron
