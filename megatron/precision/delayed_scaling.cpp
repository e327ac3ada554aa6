#include "megatron/precision/delayed_scaling.h"

#include <algorithm>
#include <cmath>

#include "megatron/base/error.h"
#include "megatron/ops/quantization/scale_rules.h"

namespace megatron {

DelayedScaling::DelayedScaling(const DelayedScalingOptions& options) : options_(options) {
  check(options.format == LowPrecisionFormat::e4m3 || options.format == LowPrecisionFormat::e5m2,
        "Expected delayed scaling for e4m3 or e5m2, but got {}", format_name(options.format));
  check(options.amax_history_len >= 1,
        "Expected an amax history of at least 1 step, but got {}; Megatron's default is 1",
        options.amax_history_len);
  history_.assign(static_cast<size_t>(options.amax_history_len), 0.0f);
}

void DelayedScaling::restore(float scale, std::vector<float> amax_history) {
  check(amax_history.size() == history_.size(),
        "Expected an amax history of {} steps, but got {}; --fp8-amax-history-len gives the length",
        history_.size(), amax_history.size());
  scale_ = scale;
  history_ = std::move(amax_history);
}

void DelayedScaling::update(float amax) {
  history_[0] = amax;
  float chosen = amax;
  if (options_.amax_compute_algo == AmaxComputeAlgo::max) {
    chosen = 0;
    for (const float seen : history_) chosen = seen > chosen ? seen : chosen;  // skips NaN
  }
  if (chosen > 0 && finite(chosen)) {
    const float scale = std::ldexp(largest_value(options_.format), -options_.margin) / chosen;
    scale_ = finite(scale) ? scale : kLargestFloat;
  }
  std::rotate(history_.begin(), history_.begin() + 1, history_.end());
  history_[0] = 0;
}

}  // namespace megatron
