// The learning-rate schedule (Megatron core/optimizer_param_scheduler.py).
#pragma once

#include <cstdint>

#include "megatron/config/model/optimizer_config.h"
#include "megatron/config/model/training_config.h"

namespace megatron {

class LearningRateSchedule {
 public:
  // Counted in optimizer steps. The decay ends after lr_decay_iters, by default `train_iters`.
  LearningRateSchedule(const OptimizerConfig& config, int64_t train_iters);

  // Counted in samples where the run is (counts_samples() in batch_size.h), else in steps. With a
  // ramp of the batch size, an iteration of the configuration stands for `final_batch_size` samples.
  LearningRateSchedule(const OptimizerConfig& config, const TrainingConfig& training,
                       const BatchConfig& batch, int64_t final_batch_size);

  // The learning rate of the step that follows n optimizer steps, or steps of n samples. With w of
  // warm-up, d until the end of the decay and r = (n - w) / (d - w): linear from lr_warmup_init to
  // lr during warm-up, then min + (lr - min) * c with c = 1 - r (linear) or (cos(pi r) + 1) / 2
  // (cosine), and min after d. WSD keeps lr until its decay phase before d, which has its own style.
  // constant keeps lr.
  double learning_rate(int64_t n) const { return rate_at(n, config_.lr, config_.min_lr); }

  // That of embeddings and output layer, from decoupled_lr and decoupled_min_lr where they are set.
  double decoupled_learning_rate(int64_t n) const;

 private:
  double rate_at(int64_t n, double most, double least) const;

  OptimizerConfig config_;
  double warmup_;  // a fraction of the decay need not be a whole number
  int64_t decay_;
  int64_t wsd_decay_;
};

}  // namespace megatron
