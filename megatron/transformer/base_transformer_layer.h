// Interface of a transformer layer: what a block, an MTP layer and a schedule plan run.
#pragma once

#include "megatron/base/hooked_module.h"
#include "megatron/transformer/forward_context.h"
#include "megatron/transformer/layer_input.h"

namespace megatron {

class BaseTransformerLayer : public HookedModule {
 public:
  // hidden_states [s, b, h] ([s/tp, b, h] with sequence parallelism) -> the same shape.
  virtual at::Tensor forward(const at::Tensor& hidden_states, const LayerInput& input,
                             const ForwardContext& context) const = 0;

  // The two halves of forward. Schedule plans call them separately, each between the module's
  // forward hooks. What the first returns is the second's input: [s, b, h], or [2, s, b, h] with
  // use_parallel_residual, where the MLP reads the layer's input besides.
  virtual at::Tensor forward_attention(const at::Tensor& hidden_states, const LayerInput& input,
                                       const ForwardContext& context) const = 0;
  virtual at::Tensor forward_mlp(const at::Tensor& hidden_states,
                                 const ForwardContext& context) const = 0;

  // Whether attention masks may show later keys.
  virtual bool takes_arbitrary_masks() const = 0;
};

}  // namespace megatron
