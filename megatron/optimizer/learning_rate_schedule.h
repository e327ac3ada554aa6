// The learning rate as a function of the iteration (Megatron core/optimizer_param_scheduler.py).
#pragma once

#include <cstdint>

#include "megatron/config/model/optimizer_config.h"

namespace megatron {

class LearningRateSchedule {
 public:
  // `train_iters` is the length of the decay where the configuration gives none.
  LearningRateSchedule(const OptimizerConfig& config, int64_t train_iters);

  // After `steps` optimizer steps: the rate that the next step uses. With w warm-up, d decay
  // iterations and r = (steps - w) / (d - w): rises linearly from lr_warmup_init to lr within w,
  // then min + (lr - min) * c, where c is 1 - r (linear) or (cos(pi r) + 1) / 2 (cosine); min after
  // d. WSD holds lr until lr_wsd_decay_iters before d and falls within them by its own style.
  // constant keeps lr.
  double learning_rate(int64_t steps) const;

 private:
  OptimizerConfig config_;
  int64_t warmup_, decay_;
};

}  // namespace megatron
