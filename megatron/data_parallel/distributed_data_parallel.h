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
  // the ranks with copies of the parameters (ProcessGroupCollection::dp_cp), and
  // `expert_data_parallel` those with copies of its experts (expt_dp). `disable_bucketing`: one
  // bucket for each dtype, whatever the bucket size; see disables_bucketing. Throws Error for a
  // `config` that check_data_parallel refuses, and for experts without their group.
  DistributedDataParallel(const std::vector<ModuleGroup>& groups,
                          const DistributedDataParallelConfig& config,
                          ProcessGroupPtr data_parallel, bool disable_bucketing = false,
                          ProcessGroupPtr expert_data_parallel = nullptr);

  void zero_gradients() { strategy_->zero_gradients(); }
  // Before the last backward pass of a step: reductions may start while it runs.
  void start_last_backward() { strategy_->start_last_backward(); }
  // Completes the gradients of owned_slices: sums over the ranks.
  void finish_gradients() { strategy_->finish_gradients(); }
  void scale_gradients(double factor);

  // What it was constructed with: the configuration, and the parameters, each once in forward order.
  const DistributedDataParallelConfig& config() const { return config_; }
  const std::vector<ParameterPtr>& parameters() const { return parameters_; }

  // Whether the optimizer announces updated slices during its step, so that their gathers start
  // then (overlap_param_gather_with_optimizer_step). The builder says it; TrainStep compares.
  void gather_with_optimizer_step(bool with_step) { gathers_with_step_ = with_step; }
  bool gathers_with_optimizer_step() const { return gathers_with_step_; }

  // What this rank updates, in forward order: every parameter, or this rank's slices.
  const std::vector<ParameterSlice>& owned_slices() const { return strategy_->owned_slices(); }
  bool is_sharded() const { return strategy_->is_sharded(); }
  const ProcessGroup& group() const { return *group_; }
  // Of the experts; null for a model without them.
  const ProcessGroup* expert_group() const { return expert_group_.get(); }

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
  ProcessGroupPtr group_, expert_group_;
  std::unique_ptr<DataParallelStrategy> strategy_;
  DistributedDataParallelConfig config_;
  std::vector<ParameterPtr> parameters_;
  bool gathers_with_step_ = false;
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
