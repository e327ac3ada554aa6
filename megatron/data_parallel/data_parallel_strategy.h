// What the data-parallel ranks share of a model chunk's gradients, optimizer state and parameters:
// the interface of all sharding strategies.
#pragma once

#include "megatron/config/model/ddp_config.h"
#include "megatron/data_parallel/module_group.h"
#include "megatron/data_parallel/parameter_slice.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {

// A step: zero_gradients, the backward passes, finish_gradients, wait_for_parameters, the update of
// owned_slices, finish_update. Every method is collective over the data-parallel ranks.
//
// The defaults are those of parameters that are complete on every rank.
class DataParallelStrategy {
 public:
  DataParallelStrategy() = default;
  virtual ~DataParallelStrategy() = default;
  DataParallelStrategy(const DataParallelStrategy&) = delete;
  DataParallelStrategy& operator=(const DataParallelStrategy&) = delete;

  // Whether owned_slices differ between the ranks.
  virtual bool is_sharded() const { return true; }
  // What this rank updates, in forward order. Their tensors stay the same for the strategy's
  // lifetime.
  virtual const std::vector<ParameterSlice>& owned_slices() const = 0;

  virtual void zero_gradients() = 0;
  // The backward pass that begins now is the last of this step: reductions may start during it.
  virtual void start_last_backward() {}
  // Completes main_grad of owned_slices: the sums over the ranks.
  virtual void finish_gradients() = 0;
  // Completes Parameter::main_grad on every rank, until zero_gradients.
  virtual void unshard_gradients() = 0;

  // The first `count` slices of owned_slices are updated: their gathers may start.
  virtual void slices_updated(size_t /*count*/) {}
  virtual void finish_update() {}
  // Ends the gathers that finish_update left in flight.
  virtual void wait_for_parameters() {}
  // Completes Parameter::data on every rank, until reshard_parameters or finish_update.
  virtual void unshard_parameters() { wait_for_parameters(); }
  // Frees full parameters where the ranks keep shards only.
  virtual void reshard_parameters() {}
};

// The strategy that `config` selects (sharding_strategy, use_torch_fsdp2). It sets main_grad of all
// parameters, and moves their values where the ranks own slices. With a sharding strategy it also
// sets the modules' forward hooks. `data_parallel` holds the ranks with copies of the parameters.
std::unique_ptr<DataParallelStrategy> make_data_parallel_strategy(
    const std::vector<ModuleGroup>& groups, const DistributedDataParallelConfig& config,
    const ProcessGroupPtr& data_parallel);

}  // namespace megatron
