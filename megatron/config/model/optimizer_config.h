// The optimizer, its parameter groups, and how the learning rate and the weight decay move.
#pragma once

#include <cstdint>
#include <optional>

namespace megatron {

enum class OptimizerType { adam, sgd };
enum class LrDecayStyle { constant, linear, cosine, WSD };
enum class WsdDecayStyle { linear, cosine, exponential, minus_sqrt };

struct OptimizerConfig {
  OptimizerType optimizer = OptimizerType::adam;
  double lr = 3e-4;
  double min_lr = 0.0;
  double weight_decay = 0.01;
  bool apply_wd_to_1d_parameters = false;  // biases and norms too; Megatron-LM leaves them out
  bool mup_scales_learning_rate = true;    // false: MuP with one learning rate for all
  bool decoupled_weight_decay = true;      // false: L2 decay, added to the gradient
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_eps = 1e-8;
  double sgd_momentum = 0.9;
  double clip_grad = 1.0;  // on the global L2 norm; 0 turns it off
  bool overlap_param_gather_with_optimizer_step = false;

  LrDecayStyle lr_decay_style = LrDecayStyle::linear;
  std::optional<int64_t> lr_decay_iters;  // train_iters where not given
  int64_t lr_warmup_iters = 0;
  std::optional<double> lr_warmup_fraction;  // of lr_decay_iters; excludes lr_warmup_iters
  double lr_warmup_init = 0.0;
  std::optional<int64_t> lr_wsd_decay_iters;
  WsdDecayStyle lr_wsd_decay_style = WsdDecayStyle::exponential;
};

}  // namespace megatron
