// A model chunk's pass over one micro-batch as a list of nodes, so that the forward of one
// micro-batch can be interleaved with the backward of another (Megatron's
// TransformerModelChunkSchedulePlan). Results are bit-identical to forward and backward.
#pragma once

#include "megatron/models/common/transformer_layer_schedule_plan.h"

namespace megatron {

// Callbacks around a run, for pipeline communication.
struct ChunkScheduleHooks {
  std::function<void()> pre_forward, pre_backward;
  // Called with the output for the next stage, before the last stage computes its loss.
  std::function<void(const at::Tensor& hidden_states)> post_forward;
  // Called with the gradient of the chunk's input, for the previous stage.
  std::function<void(const at::Tensor& input_grad)> post_backward;
};

class TransformerModelChunkSchedulePlan {
 public:
  // pre_process returns the hidden states for the first layer. post_process turns those of the last
  // layer into the loss or logits; it is empty except on the last stage.
  TransformerModelChunkSchedulePlan(ScheduleNode pre_process,
                                    std::vector<TransformerLayerSchedulePlan> layers,
                                    ScheduleNode post_process)
      : pre_process_(std::move(pre_process)),
        layers_(std::move(layers)),
        post_process_(std::move(post_process)) {}

  int64_t num_layers() const { return static_cast<int64_t>(layers_.size()); }
  const TransformerLayerSchedulePlan& layer(int64_t index) const { return layers_.at(index); }

  // Runs the forward of one plan and the backward of another, alternating between their layers.
  // Either may be null. `output_grad` is the gradient of the output of the second plan's forward.
  // Returns the output of the first plan, or an undefined tensor. A plan runs forward once, then
  // backward once, which frees its graphs. Modules' forward hooks run around the nodes, so a plan
  // works with every data-parallel sharding strategy.
  static at::Tensor run(TransformerModelChunkSchedulePlan* forward,
                        TransformerModelChunkSchedulePlan* backward,
                        const at::Tensor& output_grad = {}, const ChunkScheduleHooks& hooks = {});

 private:
  ScheduleNode pre_process_;
  std::vector<TransformerLayerSchedulePlan> layers_;
  ScheduleNode post_process_;
};

}  // namespace megatron
