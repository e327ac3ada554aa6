// Adam and SGD on main gradients, with fp32 masters of bf16 and fp16 parameters, clipping by the
// global norm, and the loss scale of fp16.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "megatron/config/model/optimizer_config.h"
#include "megatron/data_parallel/distributed_data_parallel.h"
#include "megatron/precision/loss_scaler.h"

namespace megatron {

// The optimizer state of a parameter slice. All tensors have the slice's shape.
struct OptimizerState {
  ParameterSlice slice;
  bool decays = false;     // weight decay applies
  bool decoupled = false;  // embedding or output layer: takes the decoupled learning rate
  double lr_mult = 1;      // MuP's factors
  double eps_mult = 1;
  at::Tensor master;      // the slice itself where its dtype is fp32 or fp64
  at::Tensor exp_avg;     // Adam: first moment; SGD: momentum
  at::Tensor exp_avg_sq;  // Adam: second moment; undefined for SGD
  bool has_separate_master() const { return !master.is_same(slice.data); }
};

class Optimizer {
 public:
  // Updates the owned slices of each model chunk; the chunks must outlive the optimizer. With MuP
  // and width multiplier m, Adam divides the learning rate and epsilon of matrices outside of
  // embeddings by m; SGD multiplies the learning rate of all other parameters by m.
  Optimizer(const OptimizerConfig& config, std::vector<DistributedDataParallel*> chunks,
            const ProcessGroupCollection& groups, double mup_width_mult = 1);
  // Updates full parameters; the caller fills their main_grad.
  Optimizer(const OptimizerConfig& config, const std::vector<ParameterPtr>& parameters,
            const ProcessGroupCollection& groups, double mup_width_mult = 1);

  struct StepResult {
    double grad_norm = 0;  // before clipping, over the entire model without detached MTP layers
    bool skipped = false;  // a gradient is infinite or NaN: nothing was changed
  };
  // The loss is multiplied by scaler->scale() before the backward passes of every step from now on.
  // step() divides the gradients by it; a step that overflows is skipped, and updates the scaler.
  void use_loss_scaler(std::unique_ptr<LossScaler> scaler) { loss_scaler_ = std::move(scaler); }
  // Null without a scaler.
  LossScaler* loss_scaler() { return loss_scaler_.get(); }
  // What to multiply the loss of the next step by; 1 without a scaler.
  double loss_scale() const { return loss_scaler_ ? loss_scaler_->scale() : 1.0; }

  // One step from complete main gradients. Embeddings and output layer take
  // `decoupled_learning_rate` where it is given. Collective over the model-parallel group, and over
  // the data-parallel group where the state is sharded.
  StepResult step(double learning_rate,
                  std::optional<double> decoupled_learning_rate = std::nullopt);

  // Copies the slices into the masters; needed after a load without optimizer state.
  void reload_masters();
  // Gathers the parameters after something other than step() changed the owned slices. Collective
  // as step().
  void gather_parameters();

  // Whether each data-parallel rank keeps a shard of the state.
  bool is_sharded() const { return !chunks_.empty() && chunks_[0]->is_sharded(); }

  std::vector<OptimizerState>& states() { return states_; }
  int64_t num_steps() const { return num_steps_; }
  void set_num_steps(int64_t steps) { num_steps_ = steps; }

 private:
  // By GradientNormGroup.
  using GradNorms = std::array<double, 2>;
  StepResult unscaled_step(const GradNorms& norms, double inverse_scale, double learning_rate,
                           std::optional<double> decoupled_learning_rate);
  GradNorms global_grad_norms() const;
  void add_state(const ParameterSlice& slice, double mup_width_mult);
  void update(OptimizerState& state, double learning_rate, double grad_scale);

  OptimizerConfig config_;
  ProcessGroupCollection groups_;
  std::vector<DistributedDataParallel*> chunks_;
  std::vector<OptimizerState> states_;  // by chunk
  bool has_experts_ = false;            // on this pipeline stage
  int64_t num_steps_ = 0;
  std::unique_ptr<LossScaler> loss_scaler_;
};

}  // namespace megatron
