// Interface of a transformer layer's attention module.
#pragma once

#include "megatron/base/megatron_module.h"
#include "megatron/transformer/forward_context.h"
#include "megatron/transformer/layer_input.h"
#include "megatron/transformer/output_and_bias.h"

namespace megatron {

class Attention : public MegatronModule {
 public:
  // hidden_states [s, b, h] ([s/tp, b, h] with sequence parallelism) -> the same shape.
  virtual OutputAndBias forward(const at::Tensor& hidden_states, const LayerInput& input,
                                const ForwardContext& context) const = 0;
};

}  // namespace megatron
