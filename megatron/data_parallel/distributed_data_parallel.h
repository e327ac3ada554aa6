// Data parallelism of one model chunk (Megatron's DistributedDataParallel): gradients are summed
// over the ranks, and a sharding strategy decides what each rank keeps.
#pragma once

#include "megatron/data_parallel/data_parallel_strategy.h"

namespace megatron {

// A step: zero_gradients, the backward passes (the last one announced), finish_gradients; then the
// optimizer updates owned_slices between begin_update and finish_update. All are collective over
// the data-parallel group.
class DistributedDataParallel {
 public:
  // The parameters must be on their device, and `groups` in forward order. `data_parallel` holds
  // the ranks with copies of the parameters (ProcessGroupCollection::dp_cp). `disable_bucketing`:
  // one bucket for each dtype, whatever the bucket size; see disables_bucketing. Throws Error for a
  // `config` that check_data_parallel refuses.
  DistributedDataParallel(const std::vector<ModuleGroup>& groups,
                          const DistributedDataParallelConfig& config,
                          ProcessGroupPtr data_parallel, bool disable_bucketing = false);

  void zero_gradients() { strategy_->zero_gradients(); }
  // The backward pass of `output` will be the last of this step.
  void reduce_with_backward_of(const at::Tensor& output);
  // Completes the gradients of owned_slices: sums over the ranks.
  void finish_gradients() { strategy_->finish_gradients(); }
  void scale_gradients(double factor);

  // What this rank updates, in forward order: every parameter, or this rank's slices.
  const std::vector<ParameterSlice>& owned_slices() const { return strategy_->owned_slices(); }
  bool is_sharded() const { return strategy_->is_sharded(); }
  const ProcessGroup& group() const { return *group_; }

  void begin_update() { wait_for_parameters(); }
  // The first `count` of owned_slices have their new values: their gathers may start.
  void slices_updated(size_t count) { strategy_->slices_updated(count); }
  void finish_update() { strategy_->finish_update(); }

  // Ends the gathers that finish_update left in flight.
  void wait_for_parameters() { strategy_->wait_for_parameters(); }
  // For readers outside of forward and backward: completes Parameter::data or main_grad on every
  // rank, until the next step or reshard_parameters.
  void unshard_parameters() { strategy_->unshard_parameters(); }
  void unshard_gradients() { strategy_->unshard_gradients(); }
  // Frees full parameters where the ranks keep shards only.
  void reshard_parameters() { strategy_->reshard_parameters(); }

 private:
  ProcessGroupPtr group_;
  std::unique_ptr<DataParallelStrategy> strategy_;
};

// Whether a rank's model chunk should not be divided into buckets. Megatron's rule: only the
// communication of the first chunk, which ends the backward pass and begins the next forward pass,
// is worth dividing; and where gathers overlap with the optimizer step, chunks are the units. A
// single chunk keeps its buckets then: each is gathered once it is updated.
inline bool disables_bucketing(size_t chunk, size_t num_chunks,
                               bool overlap_param_gather_with_optimizer_step) {
  return chunk > 0 || (overlap_param_gather_with_optimizer_step && num_chunks > 1);
}

}  // namespace megatron
