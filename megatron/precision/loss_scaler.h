// Loss scaling for fp16: the loss is multiplied by a scale before the backward pass, so that small
// gradients do not underflow, and gradients are divided by it before the step. Megatron's
// ConstantGradScaler and DynamicGradScaler.
#pragma once

#include <memory>

#include "megatron/config/model/optimizer_config.h"

namespace megatron {

// What a checkpoint keeps of a scaler.
struct LossScalerState {
  float scale = 1;
  int growth_tracker = 0;
  int hysteresis_tracker = 0;
};

class LossScaler {
 public:
  virtual ~LossScaler() = default;

  float scale() const { return scale_; }
  // 1 / scale, rounded once.
  float inverse_scale() const;
  // Takes the scale of a checkpoint, with the trackers of DynamicLossScaler where it has them.
  virtual void restore(const LossScalerState& state);
  virtual LossScalerState state() const { return {.scale = scale_}; }
  // After a step: whether any gradient of any rank was infinite or NaN. Such a step is skipped.
  virtual void update(bool found_inf) = 0;

 protected:
  // Throws Error unless the scale is positive and finite.
  explicit LossScaler(float scale);
  float scale_;
};

class ConstantLossScaler final : public LossScaler {
 public:
  explicit ConstantLossScaler(float scale) : LossScaler(scale) {}
  void update(bool) override {}
  // Keeps the scale that it was given.
  void restore(const LossScalerState&) override {}
};

// The defaults are Megatron-LM's flags.
struct DynamicLossScalerOptions {
  float initial_scale = 0x1p32f;
  float min_scale = 1;
  float growth_factor = 2;     // > 1
  float backoff_factor = 0.5;  // between 0 and 1
  int growth_interval = 1000;  // loss_scale_window: steps without overflow before the scale grows
  int hysteresis = 2;          // overflows before the scale backs off
};

// An overflow lowers the hysteresis counter; at zero every overflow multiplies the scale by the backoff
// factor. `growth_interval` steps in a row without overflow multiply it by the growth factor and
// restore the counter: nothing else does, so that later overflows back off at once.
class DynamicLossScaler final : public LossScaler {
 public:
  // Throws Error for values outside the ranges above.
  explicit DynamicLossScaler(const DynamicLossScalerOptions& options);
  void update(bool found_inf) override;
  void restore(const LossScalerState& state) override;
  LossScalerState state() const override { return {scale_, growth_tracker_, hysteresis_tracker_}; }

  // Steps without overflow since the last overflow or growth.
  int growth_tracker() const { return growth_tracker_; }
  // Overflows left before the scale backs off; negative after more of them.
  int hysteresis_tracker() const { return hysteresis_tracker_; }

 private:
  DynamicLossScalerOptions options_;
  int growth_tracker_ = 0;
  int hysteresis_tracker_ = 0;
};

// Constant with loss_scale, else dynamic.
std::unique_ptr<LossScaler> make_loss_scaler(const OptimizerConfig& config);

}  // namespace megatron
