// The learning-rate schedule (Megatron core/optimizer_param_scheduler.py).
#pragma once

#include <cstdint>

#include "megatron/config/model/optimizer_config.h"

namespace megatron {

class LearningRateSchedule {
 public:
  // The decay ends after lr_decay_iters steps, by default `train_iters`.
  LearningRateSchedule(const OptimizerConfig& config, int64_t train_iters);

  // The learning rate of the next step after `steps` optimizer steps. With w warm-up steps, d decay
  // steps and r = (steps - w) / (d - w): linear from lr_warmup_init to lr during warm-up, then
  // min + (lr - min) * c with c = 1 - r (linear) or (cos(pi r) + 1) / 2 (cosine), and min after d.
  // WSD keeps lr until lr_wsd_decay_iters before d and then decays by its own style. constant keeps
  // lr.
  double learning_rate(int64_t steps) const;

 private:
  OptimizerConfig config_;
  double warmup_;  // steps; a fraction of the decay need not be a whole number
  int64_t decay_;
};

}  // namespace megatron
