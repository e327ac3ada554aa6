// A transformer layer as the nodes that a schedule can interleave (Megatron's
// TransformerLayerSchedulePlan).
#pragma once

#include <utility>

#include "megatron/models/common/schedule_node.h"
#include "megatron/transformer/transformer_layer.h"

namespace megatron {

// What the nodes of a pass share. It is filled in when the pass begins.
struct SchedulePass {
  LayerInput layer_input;
  ForwardContext context;
};

struct TransformerLayerSchedulePlan {
  ScheduleNode pre_dispatch_computation;  // attention
  ScheduleNode moe_dispatch;              // all-to-all to the experts: empty in a dense layer
  ScheduleNode mlp;
  ScheduleNode moe_combine;       // all-to-all back: empty in a dense layer
  ScheduleNode mtp_post_process;  // empty but behind a prediction layer

  // The plan of a dense layer. The layer must outlive it.
  static TransformerLayerSchedulePlan dense(const TransformerLayer& layer,
                                            std::shared_ptr<const SchedulePass> pass);

  // The forward of one layer and the backward of another, of two micro-batches, node by node in
  // turn: what one communicates hides behind what the other computes. Either may be null. Gives the
  // output of the first and the gradient of the input of the second.
  static std::pair<at::Tensor, at::Tensor> run(TransformerLayerSchedulePlan* forward,
                                               TransformerLayerSchedulePlan* backward,
                                               at::Tensor input, at::Tensor grad);
};

}  // namespace megatron
