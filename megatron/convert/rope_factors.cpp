#include "megatron/convert/rope_factors.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace megatron {
namespace {

double wavelength(double theta, int64_t index, int64_t head_dim) {
  return 2 * std::numbers::pi * std::pow(theta, 2.0 * double(index) / double(head_dim));
}

bool gives(const Llama3Scaling& scaling, double theta, const std::vector<float>& factors) {
  const auto ours = rope_factors(scaling, theta, 2 * std::ssize(factors));
  return std::equal(ours.begin(), ours.end(), factors.begin(),
                    [](float a, float b) { return std::abs(a - b) <= 2e-5f * std::abs(b); });
}

}  // namespace

std::vector<float> rope_factors(const Llama3Scaling& scaling, double theta, int64_t head_dim) {
  const std::vector<double> plain = rope_frequencies(head_dim, theta);
  const std::vector<double> scaled = llama3_rescaled(plain, scaling);
  std::vector<float> factors;
  for (size_t i = 0; i < plain.size(); ++i)
    factors.push_back(static_cast<float>(plain[i] / scaled[i]));
  return factors;
}

std::optional<Llama3Scaling> fit_llama3_scaling(const std::vector<float>& factors, double theta) {
  const int64_t head_dim = 2 * std::ssize(factors);
  if (factors.empty()) return std::nullopt;
  const double largest = *std::max_element(factors.begin(), factors.end());
  if (!std::isfinite(largest) || largest <= 1) return std::nullopt;
  // The share of the unscaled frequency, a line in 1 / wavelength between the two ends.
  struct Point {
    double inverse_length, smooth;
  };
  std::vector<Point> between;
  for (int64_t i = 0; i < std::ssize(factors); ++i) {
    const double smooth = (1 / double(factors[size_t(i)]) - 1 / largest) / (1 - 1 / largest);
    if (smooth > 1e-3 && smooth < 1 - 1e-3)
      between.push_back({1 / wavelength(theta, i, head_dim), smooth});
  }
  std::vector<Llama3Scaling> candidates;
  const auto propose = [&](double original, double low, double high) {
    if (!std::isfinite(original) || original < 1 || original > 1e9) return;
    candidates.push_back({.factor = largest,
                          .low_freq_factor = low,
                          .high_freq_factor = high,
                          .original_length = std::llround(original)});
  };
  if (!between.empty()) {
    const Point& point = between.front();
    propose((point.smooth * 3 + 1) / point.inverse_length, 1, 4);
  }
  for (int power = 13; power >= 2; --power) propose(std::exp2(power), 1, 4);
  for (int power = 14; power <= 24; ++power) propose(std::exp2(power), 1, 4);
  if (between.size() == 1) {
    // One point between the ends fits a line through each ratio of the ends.
    for (const double high : {8.0, 2.0, 16.0, 2.5, 3.0, 5.0, 6.0, 10.0})
      propose((between[0].smooth * (high - 1) + 1) / between[0].inverse_length, 1, high);
  }
  if (between.empty()) {
    // Any ends between the last wavelength that is kept and the first that is divided.
    for (int64_t i = 1; i < std::ssize(factors); ++i) {
      const double kept = wavelength(theta, i - 1, head_dim),
                   divided = wavelength(theta, i, head_dim);
      if (factors[size_t(i)] > factors[size_t(i) - 1])
        propose(divided * 0.99, 1, divided * 0.99 / (kept * 1.01));
    }
  }
  if (between.size() > 1) {
    // smooth = original / (high - low) / wavelength - low / (high - low); with low = 1.
    const Point &a = between.front(), &b = between.back();
    const double slope = (a.smooth - b.smooth) / (a.inverse_length - b.inverse_length);
    const double offset = slope * a.inverse_length - a.smooth;
    if (offset > 0) propose(slope / offset, 1, 1 + 1 / offset);
  }
  for (const Llama3Scaling& candidate : candidates) {
    if (gives(candidate, theta, factors)) return candidate;
  }
  return std::nullopt;
}

}  // namespace megatron
