// Gradients, and where wanted parameters, of which every rank keeps a slice only (ZeRO-2 and -3,
// Rajbhandari et al., 2020; Megatron's FSDP).
#pragma once

#include <optional>

#include "megatron/data_parallel/gradient_buffer.h"
#include "megatron/data_parallel/parameter_buffer.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

// The buckets of one layer, or those of all that is no layer (embeddings, final norm, output).
struct ShardedUnit {
  std::vector<size_t> buckets;
};

// Layers come and go: the parameters of one are gathered ahead of its forward and its backward pass
// and freed when another needs its own; its whole gradient exists from the beginning of its
// backward pass until it has been summed over the ranks into their slices. What is no layer stays
// from its first use until the end of the step, since a tied embedding is read and gets gradients
// at both ends of a pass.
class FullySharded {
 public:
  struct Overlap {
    bool gradients = false;   // a layer's sum is waited for when the next one's begins
    bool parameters = false;  // the next layer's gather is started with this one's pass
  };
  // Units in the order of the forward pass; unit 0 is all that is no layer. `parameters` is null
  // where every rank keeps the parameters whole.
  FullySharded(GradientBuffer& gradients, ParameterBuffer* parameters,
               std::vector<ShardedUnit> units, const ProcessGroup& group, Overlap overlap);

  // This rank's slices, which stay.
  const at::Tensor& gradient_shard(size_t bucket) const { return gradient_shards_[bucket]; }
  const at::Tensor& parameter_shard(size_t bucket) const { return parameter_shards_[bucket]; }

  void zero_gradients();
  // Around a unit's forward pass.
  void before_forward(size_t unit);
  void after_forward(size_t unit, const at::Tensor& output);
  // The end of a step's backward passes: the slices are complete.
  void finish_gradients();

  // Whole parameters and gradients, for those who read them outside of the model's passes.
  void hold_all_parameters();
  void hold_all_gradients();
  // Frees whole parameters, those in flight too.
  void release_parameters();

 private:
  struct Reduction {
    size_t bucket;
    at::Tensor sum;  // of this rank's slice
    std::shared_ptr<Pending> pending;
  };

  void start_gather(size_t unit);
  void hold(size_t unit);
  void release(size_t unit);
  // Makes `unit` the one layer that is held, beside `next`, whose gather is started.
  void enter(size_t unit, std::optional<size_t> next);
  void begin_backward(size_t unit);
  void end_backward();
  void start_reduction(size_t unit);
  void finish_reductions();

  GradientBuffer& gradients_;
  ParameterBuffer* parameters_;
  std::vector<ShardedUnit> units_;
  const ProcessGroup& group_;
  Overlap overlap_;
  std::vector<at::Tensor> gradient_shards_, parameter_shards_;  // by bucket
  std::vector<std::shared_ptr<Pending>> gathers_;               // by bucket
  std::vector<Reduction> reductions_;                           // in flight
  std::optional<size_t> entered_;   // the layer whose parameters were needed last
  std::optional<size_t> backward_;  // the layer whose backward pass runs
};

}  // namespace megatron
