#include "megatron/optimizer/optimizer.h"

#include <cmath>

#include <ATen/ATen.h>

#include "megatron/base/dtype.h"
#include "megatron/ops/adam.h"

namespace megatron {

Optimizer::Optimizer(const OptimizerConfig& config, const std::vector<ParameterPtr>& parameters,
                     const ProcessGroupCollection& groups, double mup_width_mult)
    : config_(config), groups_(groups) {
  for (const ParameterPtr& parameter : parameters) {
    const at::Tensor data = parameter->data.detach();
    const at::ScalarType dtype = accumulation_dtype(data.scalar_type());
    OptimizerState state;
    state.parameter = parameter;
    state.decays = data.dim() > 1 || config.apply_wd_to_1d_parameters;
    const bool is_vector = data.dim() <= 1 || parameter->is_embedding_parameter;
    if (config.optimizer == OptimizerType::adam && !is_vector)
      state.lr_mult = state.eps_mult = 1 / mup_width_mult;
    if (config.optimizer == OptimizerType::sgd && is_vector) state.lr_mult = mup_width_mult;
    if (!config.mup_scales_learning_rate) state.lr_mult = 1;
    state.master = dtype == data.scalar_type() ? parameter->data : data.to(dtype);
    state.exp_avg = at::zeros(data.sizes(), data.options().dtype(dtype));
    if (config.optimizer == OptimizerType::adam) state.exp_avg_sq = at::zeros_like(state.exp_avg);
    states_.push_back(std::move(state));
  }
}

void Optimizer::reload_masters() {
  at::NoGradGuard no_grad;
  for (OptimizerState& state : states_) {
    if (state.has_own_master()) state.master.copy_(state.parameter->data);
  }
}

// Megatron clip_grads.py: each element of the model counts once, so copies on other ranks are left
// out.
Optimizer::GradNorms Optimizer::global_grad_norms() const {
  GradNorms sums = {};
  for (const OptimizerState& state : states_) {
    const Parameter& parameter = *state.parameter;
    if (!parameter.is_main_copy()) continue;
    sums[static_cast<size_t>(parameter.gradient_norm_group)] += squared_norm(parameter.main_grad);
  }
  const at::Tensor total = at::tensor({sums[0], sums[1]}, at::kDouble);
  groups_.mp->all_reduce(total);
  return {std::sqrt(total[0].item<double>()), std::sqrt(total[1].item<double>())};
}

Optimizer::StepResult Optimizer::step(double learning_rate) {
  at::NoGradGuard no_grad;
  const GradNorms norms = global_grad_norms();
  GradNorms grad_scales;
  for (size_t group = 0; group < norms.size(); ++group) {
    if (!std::isfinite(norms[group])) return {norms[group], /*skipped=*/true};
    const double clip = config_.clip_grad > 0 ? config_.clip_grad / (norms[group] + 1e-6) : 1.0;
    grad_scales[group] = std::min(clip, 1.0);
  }
  ++num_steps_;
  for (OptimizerState& state : states_) {
    at::Tensor master = state.master.detach();
    const at::Tensor model_copy =
        state.has_own_master() ? state.parameter->data.detach() : at::Tensor();
    const double weight_decay = state.decays ? config_.weight_decay : 0.0;
    const double grad_scale =
        grad_scales[static_cast<size_t>(state.parameter->gradient_norm_group)];
    if (config_.optimizer == OptimizerType::adam) {
      adam_step(master, state.exp_avg, state.exp_avg_sq, state.parameter->main_grad, model_copy,
                {.lr = learning_rate * state.lr_mult,
                 .beta1 = config_.adam_beta1,
                 .beta2 = config_.adam_beta2,
                 .eps = config_.adam_eps * state.eps_mult,
                 .weight_decay = weight_decay,
                 .decoupled = config_.decoupled_weight_decay,
                 .step = num_steps_,
                 .grad_scale = grad_scale});
    } else {
      sgd_step(master, state.exp_avg, state.parameter->main_grad, model_copy,
               {.lr = learning_rate * state.lr_mult,
                .momentum = config_.sgd_momentum,
                .weight_decay = weight_decay,
                .first_step = num_steps_ == 1,
                .grad_scale = grad_scale});
    }
  }
  return {norms[static_cast<size_t>(GradientNormGroup::model)], /*skipped=*/false};
}

}  // namespace megatron
