#include "megatron/optimizer/learning_rate_schedule.h"

#include <cmath>
#include <numbers>

#include "megatron/base/error.h"
#include "megatron/config/model/batch_size.h"

namespace megatron {
namespace {

double cosine_decay(double r) {
  return 0.5 * (std::cos(std::numbers::pi * r) + 1.0);
}

double wsd_decay(WsdDecayStyle style, double r) {
  switch (style) {
    case WsdDecayStyle::linear:
      return 1.0 - r;
    case WsdDecayStyle::cosine:
      return cosine_decay(r);
    case WsdDecayStyle::exponential:
      return 2.0 * std::pow(0.5, r) - 1.0;
    case WsdDecayStyle::minus_sqrt:
      return 1.0 - std::sqrt(r);
  }
  fail("Expected a known WSD decay style");
}

}  // namespace

LearningRateSchedule::LearningRateSchedule(const OptimizerConfig& config, int64_t train_iters)
    : config_(config),
      decay_(config.lr_decay_iters.value_or(train_iters)),
      wsd_decay_(config.lr_wsd_decay_iters.value_or(0)) {
  warmup_ = config.lr_warmup_fraction ? *config.lr_warmup_fraction * static_cast<double>(decay_)
                                      : static_cast<double>(config.lr_warmup_iters);
}

LearningRateSchedule::LearningRateSchedule(const OptimizerConfig& config,
                                           const TrainingConfig& training, const BatchConfig& batch,
                                           int64_t final_batch_size)
    : LearningRateSchedule(config, training.train_iters) {
  if (!counts_samples(training, batch)) return;
  if (training.train_samples) {
    decay_ = config.lr_decay_samples.value_or(*training.train_samples);
    warmup_ = static_cast<double>(config.lr_warmup_samples);
    wsd_decay_ = config.lr_wsd_decay_samples.value_or(0);
  } else {
    decay_ *= final_batch_size;
    warmup_ = static_cast<double>(config.lr_warmup_iters * final_batch_size);
    wsd_decay_ *= final_batch_size;
  }
  if (config.lr_warmup_fraction) warmup_ = *config.lr_warmup_fraction * static_cast<double>(decay_);
}

double LearningRateSchedule::decoupled_learning_rate(int64_t n) const {
  return rate_at(n, config_.decoupled_lr.value_or(config_.lr),
                 config_.decoupled_min_lr.value_or(config_.min_lr));
}

double LearningRateSchedule::rate_at(int64_t steps, double most, double least) const {
  const double n = steps, w = warmup_, d = decay_;
  if (w > 0 && n <= w) {
    return config_.lr_warmup_init + (most - config_.lr_warmup_init) * n / w;
  }
  if (config_.lr_decay_style == LrDecayStyle::constant) return most;
  if (steps > decay_) return least;
  const double range = most - least;
  const double r = d > w ? (n - w) / (d - w) : 1.0;
  switch (config_.lr_decay_style) {
    case LrDecayStyle::constant:
      return most;
    case LrDecayStyle::linear:
      return least + range * (1.0 - r);
    case LrDecayStyle::cosine:
      return least + range * cosine_decay(r);
    case LrDecayStyle::WSD: {
      const double decay_steps = wsd_decay_;
      const double start = d - decay_steps;
      if (n <= start) return most;
      return least + range * wsd_decay(config_.lr_wsd_decay_style, (n - start) / decay_steps);
    }
  }
  fail("Expected a known learning-rate decay style");
}

}  // namespace megatron
