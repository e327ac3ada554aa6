#include "megatron/transformer/te_transformer_layer_autocast.h"

#include "megatron/base/error.h"
#include "megatron/transformer/layer_specs.h"

namespace megatron {
namespace {

LayerOptions autocast_options(const BuildArguments& arguments) {
  LayerOptions options = arguments.options;
  const TransformerConfig& config = arguments.config;
  if ((config.bf16 || config.fp16) && options.tensor.dtype() == at::kFloat)
    options.compute_dtype = config.compute_dtype();
  return options;
}

bool has_experts(const ModuleSpec& spec) {
  const auto found = spec.params.find("has_experts");
  if (found == spec.params.end()) return false;
  check(std::holds_alternative<bool>(found->second),
        "Expected true or false for has_experts of TETransformerLayerAutocast");
  return std::get<bool>(found->second);
}

}  // namespace

TETransformerLayerAutocast::TETransformerLayerAutocast(const BuildArguments& arguments)
    : TETransformerLayerAutocast(
          arguments, {.spec = transformer_layer_spec(arguments.config, transformer_engine_backend(),
                                                     "causal", has_experts(arguments.spec)),
                      .options = autocast_options(arguments)}) {}

TETransformerLayerAutocast::TETransformerLayerAutocast(const BuildArguments& arguments,
                                                       const Parts& parts)
    : TransformerLayer({parts.spec, arguments.config, parts.options, arguments.layer_number}) {
  set_sharded_state_dict_keys_map(parts.spec.sharded_state_dict_keys_map);
}

}  // namespace megatron
