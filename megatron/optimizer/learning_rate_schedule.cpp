#include "megatron/optimizer/learning_rate_schedule.h"

#include <cmath>
#include <numbers>

#include "megatron/base/error.h"

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
    : config_(config), decay_(config.lr_decay_iters.value_or(train_iters)) {
  warmup_ = config.lr_warmup_fraction ? *config.lr_warmup_fraction * static_cast<double>(decay_)
                                      : static_cast<double>(config.lr_warmup_iters);
}

double LearningRateSchedule::learning_rate(int64_t steps) const {
  const double n = steps, w = warmup_, d = decay_;
  if (w > 0 && n <= w) {
    return config_.lr_warmup_init + (config_.lr - config_.lr_warmup_init) * n / w;
  }
  if (config_.lr_decay_style == LrDecayStyle::constant) return config_.lr;
  if (steps > decay_) return config_.min_lr;
  const double range = config_.lr - config_.min_lr;
  const double r = d > w ? (n - w) / (d - w) : 1.0;
  switch (config_.lr_decay_style) {
    case LrDecayStyle::constant:
      return config_.lr;
    case LrDecayStyle::linear:
      return config_.min_lr + range * (1.0 - r);
    case LrDecayStyle::cosine:
      return config_.min_lr + range * cosine_decay(r);
    case LrDecayStyle::WSD: {
      const double decay_steps = config_.lr_wsd_decay_iters.value_or(0);
      const double start = d - decay_steps;
      if (n <= start) return config_.lr;
      return config_.min_lr +
             range * wsd_decay(config_.lr_wsd_decay_style, (n - start) / decay_steps);
    }
  }
  fail("Expected a known learning-rate decay style");
}

}  // namespace megatron
