// Interface of the module in a layer's MLP slot: an MLP or experts.
#pragma once

#include "megatron/base/megatron_module.h"
#include "megatron/transformer/forward_context.h"
#include "megatron/transformer/output_and_bias.h"

namespace megatron {

class FeedForward : public MegatronModule {
 public:
  // hidden_states [s, b, h] ([s/tp, b, h] with sequence parallelism) -> the same shape.
  virtual OutputAndBias forward(const at::Tensor& hidden_states,
                                const ForwardContext& context) const = 0;
};

}  // namespace megatron
