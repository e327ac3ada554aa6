// Interface of a transformer layer's attention module.
#pragma once

#include "megatron/base/megatron_module.h"
#include "megatron/config/model/module_spec.h"
#include "megatron/transformer/forward_context.h"
#include "megatron/transformer/layer_input.h"
#include "megatron/transformer/output_and_bias.h"

namespace megatron {

class Attention : public MegatronModule {
 public:
  // hidden_states [s, b, h] ([s/tp, b, h] with sequence parallelism) -> the same shape.
  virtual OutputAndBias forward(const at::Tensor& hidden_states, const LayerInput& input,
                                const ForwardContext& context) const = 0;

  // Whether attention masks may show later keys.
  virtual bool takes_arbitrary_masks() const = 0;
};

// Whether the attn_mask_type of an attention's spec is arbitrary; causal by default. Throws Error
// for another type.
bool has_arbitrary_masks(const ModuleSpec& spec);

}  // namespace megatron
