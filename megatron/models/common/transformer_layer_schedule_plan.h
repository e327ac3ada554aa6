// A transformer layer as nodes that a schedule can interleave (Megatron's
// TransformerLayerSchedulePlan).
#pragma once

#include <utility>

#include "megatron/models/common/exchange_node.h"
#include "megatron/models/common/schedule_node.h"
#include "megatron/transformer/base_transformer_layer.h"

namespace megatron {

// State that all nodes of a pass share. The first node sets it.
struct SchedulePass {
  LayerInput layer_input;
  ForwardContext context;
};

class TransformerLayerSchedulePlan {
 public:
  // The plan of a layer, which must outlive it. A layer with experts whose pass can be divided
  // (BaseTransformerLayer::divided) has exchange nodes; those of other layers are empty.
  static TransformerLayerSchedulePlan of(const BaseTransformerLayer& layer, int64_t layer_number,
                                         std::shared_ptr<const SchedulePass> pass);

  ScheduleNode pre_dispatch_computation;  // attention; with experts also their router
  ExchangeNode moe_dispatch;              // all-to-all to the experts
  ScheduleNode mlp;                       // MLP, or experts and shared experts
  ExchangeNode moe_combine;               // all-to-all back
  ScheduleNode post_combine_computation;  // sum over a token's experts, residual; empty in a dense
                                          // layer
  // Those that backward of `mlp` leaves out (delay_wgrad_compute); empty where there are none.
  std::function<void()> weight_gradients;

  // Runs the forward of one layer and the backward of another, of different micro-batches,
  // alternating between their nodes so that the communication of one overlaps the computation of
  // the other:
  //   backward: combine ->             mlp, dispatch ->       attention
  //   forward:            attention, dispatch ->      mlp, combine ->
  // Either may be null. Returns the output of the first and the input gradient of the second.
  static std::pair<at::Tensor, at::Tensor> run(TransformerLayerSchedulePlan* forward,
                                               TransformerLayerSchedulePlan* backward,
                                               const at::Tensor& input, const at::Tensor& grad);

 private:
  // The parts of a pass, in the order in which they run. Those that exchange rows begin that at their
  // end; the next part waits for it.
  void forward_to_dispatch(const at::Tensor& input);
  void forward_to_combine();
  at::Tensor forward_to_end();
  void backward_to_combine(const at::Tensor& grad);
  void backward_to_dispatch();
  at::Tensor backward_to_end();

  int64_t layer_number_ = 0;
  // What bypasses an exchange: the residual, and input or output of the shared experts. In backward
  // their gradients.
  at::Tensor residual_, shared_;
};

}  // namespace megatron
