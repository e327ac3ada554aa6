// Main gradients of which each rank keeps a shard (ZeRO-2, Rajbhandari et al., 2020).
#pragma once

#include <optional>

#include "megatron/data_parallel/fsdp_units.h"
#include "megatron/data_parallel/gradient_buffer.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

// A layer's full gradient exists from the start of its backward pass until it has been
// reduce-scattered into the shards, or copied for that. That of kNonLayerUnit exists for the entire
// step.
class ShardedGradients {
 public:
  struct Options {
    bool overlap = false;        // a layer's reduce-scatter runs beside the next layer's backward
    bool check_for_nan = false;  // of this rank, before each reduction
  };
  ShardedGradients(const FsdpUnits& units, const ProcessGroup& group, Options options);

  // This rank's shard of a bucket, which is always allocated.
  const at::Tensor& shard(size_t bucket) const { return shards_[bucket]; }

  void zero();
  // Around a layer's backward pass. end_backward() does nothing where none has begun.
  void begin_backward(size_t layer);
  void end_backward();
  // After a step's backward passes: the shards are complete.
  void finish();
  // Gathers the shards: main_grad is complete on every rank until zero().
  void unshard();

 private:
  struct Reduction {
    size_t bucket;
    at::Tensor sum;  // of this rank's shard
    std::shared_ptr<Work> work;
  };
  void start_reduction(size_t unit);
  void finish_reductions();

  GradientBuffer buffer_;
  std::vector<std::vector<size_t>> buckets_;  // of each unit
  const ProcessGroup& group_;
  Options options_;
  std::vector<at::Tensor> shards_;     // by bucket
  std::vector<Reduction> reductions_;  // in flight
  std::optional<size_t> backward_;     // the layer whose backward pass runs
};

}  // namespace megatron
