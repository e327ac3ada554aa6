// Interface of a transformer layer: what a block, an MTP layer and a schedule plan run.
#pragma once

#include "megatron/base/hooked_module.h"
#include "megatron/ops/recompute.h"
#include "megatron/parallel/row_exchange.h"
#include "megatron/transformer/forward_context.h"
#include "megatron/transformer/layer_input.h"

namespace megatron {

// The pass of a layer with experts, divided at their exchanges of rows between ranks. The parts run
// once, in this order, each between the layer's forward hooks; the caller exchanges rows.
class DividedLayerPass {
 public:
  virtual ~DividedLayerPass() = default;

  // hidden_states -> {rows and probs to exchange, residual, input of the shared experts, which is
  // undefined without them}.
  virtual Tensors before_dispatch(const at::Tensor& hidden_states, const LayerInput& input) = 0;
  // The exchange of rows and probs. Its reverse is that of at_experts()'s rows.
  virtual RowExchange exchange() const = 0;
  // {rows, probs, input of the shared experts} -> {rows to exchange, output of the shared experts}.
  virtual Tensors at_experts(const Tensors& received) = 0;
  // {rows, residual, output of the shared experts} -> the layer's output.
  virtual at::Tensor after_combine(const Tensors& returned) = 0;

  // With delay_wgrad_compute: adds the weight gradients of experts, which the backward pass of
  // at_experts() leaves out, to the main gradients. Runs after that.
  virtual void compute_weight_gradients() = 0;
};

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

  // forward() in parts; null: the layer exchanges no rows. The layer must outlive the pass.
  virtual std::unique_ptr<DividedLayerPass> divided(const ForwardContext& /*context*/) const {
    return nullptr;
  }

  // Whether attention masks may show later keys.
  virtual bool takes_arbitrary_masks() const = 0;
};

}  // namespace megatron
