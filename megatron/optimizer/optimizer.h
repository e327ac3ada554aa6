// Adam and SGD over the main gradients, with fp32 masters of bf16 parameters and clipping by the
// global norm.
#pragma once

#include <array>
#include <vector>

#include "megatron/config/model/optimizer_config.h"
#include "megatron/data_parallel/distributed_data_parallel.h"

namespace megatron {

// What the optimizer keeps for a part of a parameter. All tensors have the part's shape.
struct OptimizerState {
  ParameterPart part;
  bool decays = false;  // weight decay applies
  double lr_mult = 1;   // MuP's factors
  double eps_mult = 1;
  at::Tensor master;      // the part itself where its dtype is fp32 or fp64
  at::Tensor exp_avg;     // Adam: first moment; SGD: momentum
  at::Tensor exp_avg_sq;  // Adam: second moment; undefined for SGD
  bool has_own_master() const { return !master.is_same(part.data); }
};

class Optimizer {
 public:
  // Updates what the rank owns of each of its model chunks, which must outlive the optimizer. With
  // MuP the width multiplier m divides the learning rate and epsilon of matrices that are no
  // embedding (Adam), or multiplies the learning rate of all others (SGD).
  Optimizer(const OptimizerConfig& config, std::vector<DistributedDataParallel*> chunks,
            const ProcessGroupCollection& groups, double mup_width_mult = 1);
  // Whole parameters, whose main_grad others fill.
  Optimizer(const OptimizerConfig& config, const std::vector<ParameterPtr>& parameters,
            const ProcessGroupCollection& groups, double mup_width_mult = 1);

  struct StepResult {
    double grad_norm = 0;  // before clipping, over the whole model but detached prediction layers
    bool skipped = false;  // the gradients hold an infinity or a NaN: nothing was changed
  };
  // One step from the main gradients, which must be complete. Collective over the model-parallel
  // group, and over the data-parallel one where the state is sharded.
  StepResult step(double learning_rate);

  // Takes the masters from the parts, after these were loaded without optimizer state.
  void reload_masters();
  // To be called after the parts were changed by others: brings them to all ranks. Collective as
  // step.
  void publish_parts();

  // Whether every data-parallel rank keeps a part of the state.
  bool is_sharded() const { return !chunks_.empty() && chunks_[0]->is_sharded(); }

  std::vector<OptimizerState>& states() { return states_; }
  int64_t num_steps() const { return num_steps_; }
  void set_num_steps(int64_t steps) { num_steps_ = steps; }

 private:
  // By GradientNormGroup.
  using GradNorms = std::array<double, 2>;
  GradNorms global_grad_norms() const;
  void add_state(const ParameterPart& part, double mup_width_mult);
  void update(OptimizerState& state, double learning_rate, double grad_scale);

  OptimizerConfig config_;
  ProcessGroupCollection groups_;
  std::vector<DistributedDataParallel*> chunks_;
  std::vector<OptimizerState> states_;  // by chunk
  int64_t num_steps_ = 0;
};

}  // namespace megatron
