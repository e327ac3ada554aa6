// The table's part about the optimizer and the learning rate.
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
  group.add(&O::optimizer, {.flag = "optimizer", .help = "Which optimizer moves the weights"});
  group.add(&O::weight_decay, {.flag = "weight-decay",
                               .help = "Weight decay; for matrices only, as in Megatron-LM",
                               .unit = "factor"});
  group.add(&O::apply_wd_to_1d_parameters,
            {.flag = "apply-wd-to-1d-parameters",
             .help = "Weight decay for biases and one-dimensional parameters too"});
  group.add(&O::mup_scales_learning_rate, {.flag = "no-mup-learning-rates",
                                           .help = "With MuP: one learning rate for all parameters",
                                           .field = "mup_scales_learning_rate",
                                           .inverted = true});
  group.add(&O::decoupled_weight_decay,
            {.flag = "no-decoupled-weight-decay",
             .help = "L2 decay added to the gradient, instead of AdamW's",
             .field = "decoupled_weight_decay",
             .inverted = true});
  group.add(
      &O::adam_beta1,
      {.flag = "adam-beta1", .help = "Decay of the mean of the gradients", .unit = "fraction"});
  group.add(
      &O::adam_beta2,
      {.flag = "adam-beta2", .help = "Decay of the mean of their squares", .unit = "fraction"});
  group.add(&O::adam_eps,
            {.flag = "adam-eps", .help = "Added to Adam's denominator", .unit = "absolute"});
  group.add(&O::sgd_momentum,
            {.flag = "sgd-momentum", .help = "Momentum of SGD", .unit = "fraction"});
  group.add(&O::clip_grad, {.flag = "clip-grad",
                            .help = "Largest global norm of the gradients; 0 turns clipping off",
                            .unit = "L2 norm"});

  const auto rate = table.group("Learning rate", kOptimizerCommands, &optimizer_of);
  rate.add(&O::lr, {.flag = "lr", .help = "Learning rate after the warm-up", .unit = "per step"});

  const auto schedule = table.group("Learning rate", commands(Command::train), &optimizer_of);
  schedule.add(&O::min_lr,
               {.flag = "min-lr", .help = "Least learning rate of the decay", .unit = "per step"});
  schedule.add(&O::lr_decay_style,
               {.flag = "lr-decay-style", .help = "Shape of the decay after the warm-up"});
  schedule.add(&O::lr_decay_iters, {.flag = "lr-decay-iters",
                                    .help = "When the decay ends",
                                    .unit = "iterations",
                                    .otherwise = "the end of training"});
  schedule.add(
      &O::lr_warmup_iters,
      {.flag = "lr-warmup-iters", .help = "Length of the linear warm-up", .unit = "iterations"});
  schedule.add(&O::lr_warmup_fraction, {.flag = "lr-warmup-fraction",
                                        .help = "The same as a share of the decay's iterations",
                                        .unit = "fraction",
                                        .otherwise = "--lr-warmup-iters"});
  schedule.add(&O::lr_warmup_init, {.flag = "lr-warmup-init",
                                    .help = "Learning rate at the warm-up's start",
                                    .unit = "per step"});
  schedule.add(&O::lr_wsd_decay_iters, {.flag = "lr-wsd-decay-iters",
                                        .help = "Length of the decay at the end of a WSD schedule",
                                        .unit = "iterations",
                                        .otherwise = "none; WSD needs it"});
  schedule.add(&O::lr_wsd_decay_style,
               {.flag = "lr-wsd-decay-style", .help = "Shape of that decay"});
}

}  // namespace megatron
