#include "megatron/precision/loss_scaler.h"

#include <algorithm>
#include <cmath>

#include "megatron/base/error.h"

namespace megatron {

LossScaler::LossScaler(float scale) : scale_(scale) {
  check(scale > 0 && std::isfinite(scale),
        "Expected a positive finite loss scale, but got {}; powers of two are usual", scale);
}

void LossScaler::restore(const LossScalerState& state) {
  check(state.scale > 0 && std::isfinite(state.scale),
        "Expected a positive finite loss scale in the checkpoint, but got {}", state.scale);
  scale_ = state.scale;
}

float LossScaler::inverse_scale() const {
  return static_cast<float>(1.0 / static_cast<double>(scale_));
}

DynamicLossScaler::DynamicLossScaler(const DynamicLossScalerOptions& options)
    : LossScaler(options.initial_scale),
      options_(options),
      hysteresis_tracker_(options.hysteresis) {
  check(options.min_scale > 0 && options.min_scale <= options.initial_scale,
        "Expected a min_loss_scale above 0 and at most the initial loss scale {}, but got {}",
        options.initial_scale, options.min_scale);
  check(options.growth_factor > 1, "Expected a growth factor above 1, but got {}",
        options.growth_factor);
  check(options.backoff_factor > 0 && options.backoff_factor < 1,
        "Expected a backoff factor between 0 and 1, but got {}", options.backoff_factor);
  check(options.growth_interval > 0, "Expected a loss_scale_window of at least 1 step, but got {}",
        options.growth_interval);
  check(options.hysteresis > 0, "Expected a hysteresis of at least 1 overflow, but got {}",
        options.hysteresis);
}

void DynamicLossScaler::restore(const LossScalerState& state) {
  LossScaler::restore(state);
  growth_tracker_ = state.growth_tracker;
  hysteresis_tracker_ = state.hysteresis_tracker;
}

void DynamicLossScaler::update(bool found_inf) {
  if (found_inf) {
    growth_tracker_ = 0;
    --hysteresis_tracker_;
    if (hysteresis_tracker_ <= 0) {
      scale_ = std::max(scale_ * options_.backoff_factor, options_.min_scale);
    }
    return;
  }
  ++growth_tracker_;
  if (growth_tracker_ == options_.growth_interval) {
    growth_tracker_ = 0;
    hysteresis_tracker_ = options_.hysteresis;
    scale_ *= options_.growth_factor;
  }
}

std::unique_ptr<LossScaler> make_loss_scaler(const OptimizerConfig& config) {
  if (config.loss_scale)
    return std::make_unique<ConstantLossScaler>(static_cast<float>(*config.loss_scale));
  return std::make_unique<DynamicLossScaler>(
      DynamicLossScalerOptions{.initial_scale = static_cast<float>(config.initial_loss_scale),
                               .min_scale = static_cast<float>(config.min_loss_scale),
                               .growth_interval = static_cast<int>(config.loss_scale_window),
                               .hysteresis = static_cast<int>(config.hysteresis)});
}

}  // namespace megatron
