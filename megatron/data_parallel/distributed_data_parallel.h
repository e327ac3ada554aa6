// Data parallelism of one model chunk: gradients summed over the ranks, and with a sharded
// optimizer parameters of which every rank updates a slice (Megatron's DistributedDataParallel).
#pragma once

#include "megatron/data_parallel/fully_sharded.h"
#include "megatron/data_parallel/gradient_reduction.h"
#include "megatron/data_parallel/parameter_gather.h"
#include "megatron/data_parallel/parameter_part.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {

// A step: zero_gradients, the backward passes (the last one announced), finish_gradients; then the
// optimizer updates owned_parts between begin_update and finish_update. All are collective over the
// group, whose ranks take the same steps.
class DistributedDataParallel {
 public:
  // Takes over the gradients of all parameters, with a sharded optimizer their values too; these
  // must be on their device. `data_parallel` holds the ranks with copies of the parameters
  // (ProcessGroupCollection::dp_cp).
  DistributedDataParallel(std::vector<ModelPart> parts, const DistributedDataParallelConfig& config,
                          ProcessGroupPtr data_parallel);
  ~DistributedDataParallel();
  DistributedDataParallel(const DistributedDataParallel&) = delete;
  DistributedDataParallel& operator=(const DistributedDataParallel&) = delete;

  void zero_gradients();
  // The backward pass of `output` will be the last of this step.
  void reduce_with_backward_of(const at::Tensor& output);
  // Gradients are complete in owned_parts: sums over the ranks.
  void finish_gradients();
  void scale_gradients(double factor);

  // What this rank updates: every parameter, in the order of registration, or its slices of the
  // buckets, in the order of use.
  const std::vector<ParameterPart>& owned_parts() const { return owned_parts_; }
  bool is_sharded() const { return strategy_ != DataParallelShardingStrategy::no_shard; }
  const ProcessGroup& group() const { return *group_; }

  void begin_update();
  // Everything up to owned_parts()[count - 1] has its new values, which may go out to the others.
  void parts_updated(size_t count);
  void finish_update();

  // Ends the gathers that finish_update left in flight.
  void wait_for_parameters();
  // Whole parameters or gradients in Parameter::data and main_grad, for those who read them outside
  // of the model's forward pass and backward: until the next step, or release_parameters.
  void hold_parameters();
  void hold_gradients();
  // Frees the parameters that are sharded between their uses.
  void release_parameters();

 private:
  std::vector<BucketLayout> plan(const DistributedDataParallelConfig& config);
  void list_owned_parts();
  void set_hooks();

  std::vector<ModelPart> parts_;
  ProcessGroupPtr group_;
  DataParallelShardingStrategy strategy_;
  std::vector<ShardedUnit> units_;
  std::unique_ptr<GradientBuffer> gradients_;
  std::unique_ptr<ParameterBuffer> parameters_;   // null where not sharded
  std::unique_ptr<GradientReduction> reduction_;  // of whole gradients
  std::unique_ptr<ParameterGather> gather_;       // of parameters that stay whole
  std::unique_ptr<FullySharded> sharded_;         // ZeRO-2 and -3
  std::vector<ParameterPart> owned_parts_;
  std::vector<size_t> parts_behind_;  // by bucket: owned parts up to and with its own
};

}  // namespace megatron
