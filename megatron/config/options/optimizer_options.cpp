// Options of the optimizer and the learning-rate schedule.
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

constexpr CommandSet kOptimizerCommands = commands(Command::train, Command::bench);

OptimizerConfig& optimizer_of(Options& options) {
  return options.optimizer;
}

}  // namespace

void add_optimizer_options(OptionTable& table) {
  using O = OptimizerConfig;
  const auto group = table.group("Optimizer", kOptimizerCommands, &optimizer_of);
  group.add(&O::optimizer, {.flag = "optimizer", .help = "Optimizer"});
  group.add(&O::weight_decay, {.flag = "weight-decay",
                               .help = "Weight decay; applied to matrices only, as in Megatron-LM",
                               .unit = "factor"});
  group.add(&O::apply_wd_to_1d_parameters,
            {.flag = "apply-wd-to-1d-parameters",
             .help = "Apply weight decay to biases and norm weights too"});
  group.add(&O::mup_scales_learning_rate,
            {.flag = "no-mup-learning-rates",
             .help = "With MuP: use one learning rate for all parameters",
             .field = "mup_scales_learning_rate",
             .inverted = true});
  group.add(&O::decoupled_weight_decay,
            {.flag = "no-decoupled-weight-decay",
             .help = "L2 regularization in the gradient instead of decoupled weight decay (AdamW)",
             .field = "decoupled_weight_decay",
             .inverted = true});
  group.add(
      &O::adam_beta1,
      {.flag = "adam-beta1", .help = "Decay of the first moment (beta1)", .unit = "fraction"});
  group.add(
      &O::adam_beta2,
      {.flag = "adam-beta2", .help = "Decay of the second moment (beta2)", .unit = "fraction"});
  group.add(&O::adam_eps,
            {.flag = "adam-eps", .help = "Epsilon in the denominator", .unit = "absolute"});
  group.add(&O::sgd_momentum,
            {.flag = "sgd-momentum", .help = "Momentum of SGD", .unit = "fraction"});
  group.add(&O::clip_grad, {.flag = "clip-grad",
                            .help = "Maximum global gradient norm; 0 disables clipping",
                            .unit = "L2 norm"});

  const auto scale = table.group("Loss scaling", kOptimizerCommands, &optimizer_of);
  scale.add(&O::loss_scale, {.flag = "loss-scale",
                             .help = "With --fp16: constant factor of the loss",
                             .unit = "factor",
                             .otherwise = "dynamic"});
  scale.add(&O::initial_loss_scale, {.flag = "initial-loss-scale",
                                     .help = "With --fp16: the dynamic loss scale at the start",
                                     .unit = "factor"});
  scale.add(&O::min_loss_scale, {.flag = "min-loss-scale",
                                 .help = "With --fp16: smallest dynamic loss scale",
                                 .unit = "factor"});
  scale.add(&O::loss_scale_window,
            {.flag = "loss-scale-window",
             .help = "With --fp16: steps without overflow until the loss scale doubles",
             .unit = "iterations"});
  scale.add(&O::hysteresis, {.flag = "hysteresis",
                             .help = "With --fp16: overflows until the loss scale halves",
                             .unit = "iterations"});

  const auto rate = table.group("Learning rate", kOptimizerCommands, &optimizer_of);
  rate.add(&O::lr, {.flag = "lr", .help = "Peak learning rate", .unit = "per step"});

  const auto schedule = table.group("Learning rate", commands(Command::train), &optimizer_of);
  schedule.add(&O::min_lr, {.flag = "min-lr", .help = "Minimum learning rate", .unit = "per step"});
  schedule.add(&O::decoupled_lr, {.flag = "decoupled-lr",
                                  .help = "Peak learning rate of embeddings and output layer",
                                  .unit = "per step",
                                  .otherwise = "--lr"});
  schedule.add(&O::decoupled_min_lr, {.flag = "decoupled-min-lr",
                                      .help = "With --decoupled-lr: minimum of that learning rate",
                                      .unit = "per step",
                                      .otherwise = "--min-lr"});
  schedule.add(&O::lr_decay_style,
               {.flag = "lr-decay-style", .help = "Shape of the learning rate decay"});
  schedule.add(&O::lr_decay_iters, {.flag = "lr-decay-iters",
                                    .help = "Iteration at which the decay ends",
                                    .unit = "iterations",
                                    .otherwise = "--train-iters"});
  schedule.add(
      &O::lr_warmup_iters,
      {.flag = "lr-warmup-iters", .help = "Length of the linear warm-up", .unit = "iterations"});
  schedule.add(
      &O::lr_warmup_fraction,
      {.flag = "lr-warmup-fraction",
       .help = "Length of the warm-up as a fraction of --lr-decay-iters or --lr-decay-samples, not "
               "rounded to whole iterations",
       .unit = "fraction",
       .otherwise = "--lr-warmup-iters"});
  schedule.add(&O::lr_warmup_init, {.flag = "lr-warmup-init",
                                    .help = "Learning rate at the start of the warm-up",
                                    .unit = "per step"});
  schedule.add(&O::lr_wsd_decay_iters, {.flag = "lr-wsd-decay-iters",
                                        .help = "With WSD: length of the decay phase",
                                        .unit = "iterations",
                                        .otherwise = "none; required with WSD"});
  schedule.add(&O::lr_decay_samples, {.flag = "lr-decay-samples",
                                      .help = "With --train-samples: samples until the decay ends",
                                      .unit = "samples",
                                      .otherwise = "--train-samples"});
  schedule.add(&O::lr_warmup_samples, {.flag = "lr-warmup-samples",
                                       .help = "With --train-samples: length of the linear warm-up",
                                       .unit = "samples"});
  schedule.add(&O::lr_wsd_decay_samples,
               {.flag = "lr-wsd-decay-samples",
                .help = "With --train-samples and WSD: length of the decay phase",
                .unit = "samples",
                .otherwise = "none; required with WSD"});
  schedule.add(&O::lr_wsd_decay_style,
               {.flag = "lr-wsd-decay-style", .help = "With WSD: shape of the decay phase"});
}

}  // namespace megatron
