// One stage's pass over one micro-batch as a list of nodes that have not run yet, so that the
// forward of one micro-batch can be interleaved with the backward of another (Megatron's
// TransformerModelChunkSchedulePlan). Its results equal those of forward and backward bit for bit.
#pragma once

#include "megatron/models/common/transformer_layer_schedule_plan.h"

namespace megatron {

// What else happens around a run: a pipeline's communication, beside the computation.
struct ChunkScheduleHooks {
  std::function<void()> pre_forward, pre_backward;
  // Given what goes to the next stage, before the loss of a last stage is computed.
  std::function<void(const at::Tensor& hidden_states)> post_forward;
  // Given what goes to the stage before: the gradient of this one's input.
  std::function<void(const at::Tensor& input_grad)> post_backward;
};

class TransformerModelChunkSchedulePlan {
 public:
  // pre_process gives the hidden states of the first layer; post_process, empty but on a last
  // stage, the loss or logits from those of the last.
  TransformerModelChunkSchedulePlan(ScheduleNode pre_process,
                                    std::vector<TransformerLayerSchedulePlan> layers,
                                    ScheduleNode post_process)
      : pre_process_(std::move(pre_process)),
        layers_(std::move(layers)),
        post_process_(std::move(post_process)) {}

  int64_t num_layers() const { return static_cast<int64_t>(layers_.size()); }
  const TransformerLayerSchedulePlan& layer(int64_t index) const { return layers_.at(index); }

  // Runs the forward of one plan and the backward of another, layer by layer in turn; with one of
  // them null, plain forward or backward. `output_grad` is that of what the second plan's forward
  // gave. Gives the first plan's output; undefined without it. A plan runs forward once, then
  // backward once, which frees what it kept.
  static at::Tensor run(TransformerModelChunkSchedulePlan* forward,
                        TransformerModelChunkSchedulePlan* backward,
                        const at::Tensor& output_grad = {}, const ChunkScheduleHooks& hooks = {});

 private:
  ScheduleNode pre_process_;
  std::vector<TransformerLayerSchedulePlan> layers_;
  ScheduleNode post_process_;
};

}  // namespace megatron
