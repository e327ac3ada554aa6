// What a module is built from.
#pragma once

#include <string>

#include "megatron/config/model/module_spec.h"
#include "megatron/config/model/transformer_config.h"
#include "megatron/tensor_parallel/layer_options.h"

namespace megatron {

// References: the arguments must not outlive what they were made from.
struct BuildArguments {
  const ModuleSpec& spec;
  const TransformerConfig& config;
  const LayerOptions& options;
  int64_t layer_number = 1;  // global, from 1; of an MTP layer: among the MTP layers

  // For the module in a slot of the spec.
  BuildArguments at(const std::string& slot) const {
    return {spec.submodule(slot), config, options, layer_number};
  }
  BuildArguments with(const LayerOptions& other) const {
    return {spec, config, other, layer_number};
  }
};

}  // namespace megatron
