// The optimizer and the learning-rate schedule.
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
  std::optional<double> decoupled_lr;      // of embeddings and output layer; default: lr
  std::optional<double> decoupled_min_lr;  // default: min_lr
  double weight_decay = 0.01;
  bool apply_wd_to_1d_parameters = false;  // Megatron-LM skips biases and norms
  bool mup_scales_learning_rate = true;    // false: one learning rate with MuP
  bool decoupled_weight_decay = true;      // false: L2 term in the gradient
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_eps = 1e-8;
  double sgd_momentum = 0.9;
  double clip_grad = 1.0;  // largest global L2 norm; 0 disables clipping
  bool overlap_param_gather_with_optimizer_step = false;

  // Loss scaling of fp16.
  std::optional<double> loss_scale;    // constant; not set: dynamic
  double initial_loss_scale = 0x1p32;  // of the dynamic scale
  double min_loss_scale = 1;
  int64_t loss_scale_window = 1000;  // steps without overflow until the scale doubles
  int64_t hysteresis = 2;            // overflows until the scale halves

  LrDecayStyle lr_decay_style = LrDecayStyle::linear;
  std::optional<int64_t> lr_decay_iters;  // default: train_iters
  int64_t lr_warmup_iters = 0;
  std::optional<double> lr_warmup_fraction;  // of lr_decay_iters; instead of lr_warmup_iters
  double lr_warmup_init = 0.0;
  std::optional<int64_t> lr_wsd_decay_iters;
  // In samples, for runs that are counted in samples (train_samples).
  std::optional<int64_t> lr_decay_samples;  // default: train_samples
  int64_t lr_warmup_samples = 0;
  std::optional<int64_t> lr_wsd_decay_samples;
  WsdDecayStyle lr_wsd_decay_style = WsdDecayStyle::exponential;
};

}  // namespace megatron
