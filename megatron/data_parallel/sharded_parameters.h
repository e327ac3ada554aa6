// Parameters of which each rank keeps a shard (ZeRO-3, Rajbhandari et al., 2020; FSDP).
#pragma once

#include <optional>

#include "megatron/data_parallel/fsdp_units.h"
#include "megatron/data_parallel/parameter_buffer.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

// A layer is unsharded before its forward and its backward pass and resharded when another layer
// runs. kNonLayerUnit stays unsharded from its first use to the end of the step.
class ShardedParameters {
 public:
  struct Options {
    bool prefetch = false;  // while a layer runs, the next one is gathered
    // Otherwise a layer is resharded after its backward pass only, which needs no second gather.
    bool reshard_after_forward = true;
  };
  ShardedParameters(const FsdpUnits& units, const ProcessGroup& group, Options options);

  // This rank's shard of a bucket, which is always allocated.
  const at::Tensor& shard(size_t bucket) const { return shards_[bucket]; }

  // Unshards what the pass of a unit reads. `recomputation`: a forward pass within backward, where
  // the next layer is not known.
  void before_forward(size_t unit, bool recomputation);
  void before_backward(size_t layer);

  void unshard_all();
  // Also ends the gathers in flight.
  void reshard_all();

 private:
  void start_unshard(size_t unit);
  void unshard(size_t unit);
  void reshard(size_t unit);
  // Unshards `layer`, starts to gather `next` and reshards the layer that ran before. `backward`:
  // the pass of `layer` is backward or recomputation.
  void enter(size_t layer, std::optional<size_t> next, bool backward);

  ParameterBuffer buffer_;
  std::vector<std::vector<size_t>> buckets_;  // of each unit
  const ProcessGroup& group_;
  Options options_;
  std::vector<at::Tensor> shards_;              // by bucket
  std::vector<std::shared_ptr<Work>> gathers_;  // by bucket
  std::optional<size_t> entered_;               // the layer that ran last
  bool entered_in_backward_ = false;
};

}  // namespace megatron
