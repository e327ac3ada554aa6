// The units in which FSDP shards a model: one for each layer, and one for all other parameters.
#pragma once

#include <functional>

#include "megatron/data_parallel/parameter_buckets.h"

namespace megatron {

// The unit of all parameters outside of layers: embeddings, final norm, output layer. Unlike a
// layer it stays unsharded from its first use to the end of the step, because a tied embedding is
// read and gets gradients at both ends of the model.
inline constexpr size_t kNonLayerUnit = 0;

struct FsdpUnits {
  // The buckets of each layer have no other parameters. Their order is the reverse of forward, with
  // those of kNonLayerUnit last.
  FsdpUnits(const std::vector<ModuleGroup>& groups, BucketRules rules);

  std::vector<BucketLayout> layouts;
  std::vector<std::vector<size_t>> buckets;  // of each unit; layers in forward order from 1
  std::vector<size_t> unit_of_group;         // by module group

  size_t size() const { return buckets.size(); }
};

// Whether a backward pass runs on this thread: a forward pass is recomputation then.
bool is_in_backward();

// Calls `begin` when backward reaches `output`. Does nothing for an output without a graph.
void call_at_backward_of(const at::Tensor& output, std::function<void()> begin);

}  // namespace megatron
