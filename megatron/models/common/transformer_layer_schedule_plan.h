// A transformer layer as nodes that a schedule can interleave (Megatron's
// TransformerLayerSchedulePlan).
#pragma once

#include <utility>

#include "megatron/models/common/schedule_node.h"
#include "megatron/transformer/base_transformer_layer.h"

namespace megatron {

// State that all nodes of a pass share. The first node sets it.
struct SchedulePass {
  LayerInput layer_input;
  ForwardContext context;
};

struct TransformerLayerSchedulePlan {
  ScheduleNode pre_dispatch_computation;  // attention
  ScheduleNode moe_dispatch;              // all-to-all to the experts; empty in a dense layer
  ScheduleNode mlp;
  ScheduleNode moe_combine;       // all-to-all back; empty in a dense layer
  ScheduleNode mtp_post_process;  // empty unless the layer is an MTP layer

  // The plan of a dense layer, which must outlive the plan.
  static TransformerLayerSchedulePlan dense(const BaseTransformerLayer& layer,
                                            std::shared_ptr<const SchedulePass> pass);

  // Runs the forward of one layer and the backward of another, of different micro-batches,
  // alternating between their nodes so that the communication of one overlaps the computation of
  // the other. Either may be null. Returns the output of the first and the input gradient of the
  // second.
  static std::pair<at::Tensor, at::Tensor> run(TransformerLayerSchedulePlan* forward,
                                               TransformerLayerSchedulePlan* backward,
                                               at::Tensor input, at::Tensor grad);
};

}  // namespace megatron
