#include "megatron/optimizer/optimizer.h"

#include <cmath>

#include <ATen/ATen.h>

#include "megatron/base/dtype.h"
#include "megatron/ops/adam.h"

namespace megatron {

Optimizer::Optimizer(const OptimizerConfig& config, std::vector<DistributedDataParallel*> chunks,
                     const ProcessGroupCollection& groups, double mup_width_mult)
    : config_(config), groups_(groups), chunks_(std::move(chunks)) {
  for (const DistributedDataParallel* chunk : chunks_) {
    has_experts_ |= chunk->expert_group() != nullptr;
    for (const ParameterSlice& slice : chunk->owned_slices()) add_state(slice, mup_width_mult);
  }
}

Optimizer::Optimizer(const OptimizerConfig& config, const std::vector<ParameterPtr>& parameters,
                     const ProcessGroupCollection& groups, double mup_width_mult)
    : config_(config), groups_(groups) {
  for (const ParameterSlice& slice : full_slices(parameters)) add_state(slice, mup_width_mult);
}

void Optimizer::add_state(const ParameterSlice& slice, double mup_width_mult) {
  has_experts_ |= slice.parameter->expert;
  const Parameter& parameter = *slice.parameter;
  const at::Tensor data = slice.data.detach();
  const at::ScalarType dtype = accumulation_dtype(data.scalar_type());
  OptimizerState state;
  state.slice = slice;
  const bool is_vector = parameter.matrix_dim() <= 1;
  state.decays = !is_vector || config_.apply_wd_to_1d_parameters;
  state.decoupled = parameter.is_embedding_or_output_parameter;
  const bool is_vector_like = is_vector || parameter.is_embedding_parameter;
  if (config_.optimizer == OptimizerType::adam && !is_vector_like)
    state.lr_mult = state.eps_mult = 1 / mup_width_mult;
  if (config_.optimizer == OptimizerType::sgd && is_vector_like) state.lr_mult = mup_width_mult;
  if (!config_.mup_scales_learning_rate) state.lr_mult = 1;
  state.master = dtype == data.scalar_type() ? slice.data : data.to(dtype);
  state.exp_avg = at::zeros(data.sizes(), data.options().dtype(dtype));
  if (config_.optimizer == OptimizerType::adam) state.exp_avg_sq = at::zeros_like(state.exp_avg);
  states_.push_back(std::move(state));
}

void Optimizer::reload_masters() {
  at::NoGradGuard no_grad;
  for (OptimizerState& state : states_) {
    if (state.has_separate_master()) state.master.copy_(state.slice.data);
  }
}

void Optimizer::gather_parameters() {
  for (DistributedDataParallel* chunk : chunks_) chunk->finish_update();
}

// Each element of the model counts once, so copies are skipped (Megatron clip_grads.py).
Optimizer::GradNorms Optimizer::global_grad_norms() const {
  GradNorms sums = {}, of_experts = {};
  for (const OptimizerState& state : states_) {
    const Parameter& parameter = *state.slice.parameter;
    if (!parameter.is_main_copy()) continue;
    GradNorms& norms = parameter.expert ? of_experts : sums;
    norms[static_cast<size_t>(parameter.gradient_norm_group)] +=
        squared_norm(state.slice.main_grad);
  }
  const at::Tensor total = at::tensor({sums[0], sums[1]}, at::kDouble);
  if (is_sharded()) chunks_[0]->group().all_reduce(total);
  if (has_experts_) {
    const at::Tensor experts = at::tensor({of_experts[0], of_experts[1]}, at::kDouble);
    if (is_sharded()) groups_.expt_dp->all_reduce(experts);
    groups_.tp_ep->all_reduce(experts);
    // All experts of this stage: they count once in the sum over the tensor-parallel ranks.
    if (groups_.tp->rank() == 0) total.add_(experts);
  }
  groups_.mp->all_reduce(total);
  return {std::sqrt(total[0].item<double>()), std::sqrt(total[1].item<double>())};
}

void Optimizer::update(OptimizerState& state, double learning_rate, double grad_scale) {
  at::Tensor master = state.master.detach();
  const at::Tensor model_copy =
      state.has_separate_master() ? state.slice.data.detach() : at::Tensor();
  const double weight_decay = state.decays ? config_.weight_decay : 0.0;
  if (config_.optimizer == OptimizerType::adam) {
    adam_step(master, state.exp_avg, state.exp_avg_sq, state.slice.main_grad, model_copy,
              {.lr = learning_rate * state.lr_mult,
               .beta1 = config_.adam_beta1,
               .beta2 = config_.adam_beta2,
               .eps = config_.adam_eps * state.eps_mult,
               .weight_decay = weight_decay,
               .decoupled = config_.decoupled_weight_decay,
               .step = num_steps_,
               .grad_scale = grad_scale});
  } else {
    sgd_step(master, state.exp_avg, state.slice.main_grad, model_copy,
             {.lr = learning_rate * state.lr_mult,
              .momentum = config_.sgd_momentum,
              .weight_decay = weight_decay,
              .first_step = num_steps_ == 1,
              .grad_scale = grad_scale});
  }
}

Optimizer::StepResult Optimizer::step(double learning_rate,
                                      std::optional<double> decoupled_learning_rate) {
  at::NoGradGuard no_grad;
  // A gradient that is not finite on any rank makes the norm so on all: it is the overflow vote.
  const double inverse_scale = loss_scaler_ ? double(loss_scaler_->inverse_scale()) : 1.0;
  GradNorms norms = global_grad_norms();
  for (double& norm : norms) norm *= inverse_scale;
  const StepResult result =
      unscaled_step(norms, inverse_scale, learning_rate, decoupled_learning_rate);
  if (loss_scaler_) loss_scaler_->update(/*found_inf=*/result.skipped);
  return result;
}

Optimizer::StepResult Optimizer::unscaled_step(const GradNorms& norms, double inverse_scale,
                                               double learning_rate,
                                               std::optional<double> decoupled_learning_rate) {
  GradNorms grad_scales;
  for (size_t group = 0; group < norms.size(); ++group) {
    if (!std::isfinite(norms[group])) return {norms[group], /*skipped=*/true};
    const double clip = config_.clip_grad > 0 ? config_.clip_grad / (norms[group] + 1e-6) : 1.0;
    grad_scales[group] = std::min(clip, 1.0) * inverse_scale;
  }
  ++num_steps_;
  const auto update_next = [&](OptimizerState& state) {
    const auto group = static_cast<size_t>(state.slice.parameter->gradient_norm_group);
    const double rate =
        state.decoupled ? decoupled_learning_rate.value_or(learning_rate) : learning_rate;
    update(state, rate, grad_scales[group]);
  };
  auto state = states_.begin();
  for (DistributedDataParallel* chunk : chunks_) {
    chunk->begin_update();
    for (size_t count = 1; count <= chunk->owned_slices().size(); ++count) {
      update_next(*state++);
      if (config_.overlap_param_gather_with_optimizer_step) chunk->slices_updated(count);
    }
  }
  for (DistributedDataParallel* chunk : chunks_) chunk->finish_update();
  for (; state != states_.end(); ++state) update_next(*state);
  return {norms[static_cast<size_t>(GradientNormGroup::model)], /*skipped=*/false};
}

}  // namespace megatron
