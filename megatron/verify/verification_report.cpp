#include "megatron/verify/verification_report.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace megatron {
namespace {

// "0" if the numbers are identical, else two digits.
std::string difference_text(double difference) {
  return difference == 0 ? "0" : fmt::format("{:.1e}", difference);
}

nlohmann::json finite(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json("inf");
}

}  // namespace

std::string VerificationReport::head() const {
  return fmt::format("{:<{}}  ranks       loss  grad norm  gradients    weights   seconds",
                     "layout", name_width_);
}

std::string VerificationReport::row(const LayoutResult& result) const {
  std::string text = fmt::format("{:<{}}  {:>5}", result.layout, name_width_, result.ranks);
  if (!result.error.empty()) return text + "  FAIL\n    " + result.error;
  const auto& differences = result.differences;
  for (const TracedQuantity quantity : kTracedQuantities)
    text += fmt::format("  {:>9}", difference_text(differences[quantity].value));
  text += fmt::format("  {:>8.1f}  {}", result.seconds, result.holds(bound_) ? "ok" : "FAIL");
  for (const TracedQuantity quantity : kTracedQuantities) {
    const auto& [value, where] = differences[quantity];
    if (value <= bound_) continue;
    text += fmt::format("\n    {} differs by {}: {}", quantity_name(quantity),
                        difference_text(value), where);
  }
  return text;
}

std::string VerificationReport::verdict(const std::vector<LayoutResult>& results,
                                        double seconds) const {
  const auto failed = std::ranges::count_if(
      results, [&](const LayoutResult& result) { return !result.holds(bound_); });
  if (failed > 0) {
    return fmt::format(
        "FAIL: {} of {} layouts do not compute what one rank computes (bound {}, "
        "{:.1f} s)",
        failed, results.size(), bound_, seconds);
  }
  double largest = 0;
  for (const LayoutResult& result : results)
    largest = std::max(largest, result.differences.largest());
  return fmt::format(
      "PASS: {} layout{} what one rank computes; largest difference {} (bound {}, {:.1f} s)",
      results.size(), results.size() == 1 ? " computes" : "s compute", difference_text(largest),
      bound_, seconds);
}

std::string VerificationReport::failure(const std::vector<LayoutResult>& results) const {
  const LayoutResult* worst = nullptr;
  for (const LayoutResult& result : results) {
    if (result.holds(bound_)) continue;
    const bool larger =
        worst == nullptr || (worst->error.empty() && !result.error.empty()) ||
        (worst->error.empty() && result.differences.largest() > worst->differences.largest());
    if (larger) worst = &result;
  }
  if (worst == nullptr) return "";
  if (!worst->error.empty()) {
    return fmt::format("Expected layout {} to train, but a rank failed: {}", worst->layout,
                       worst->error);
  }
  const TracedQuantity quantity = worst->differences.largest_quantity();
  const auto& [value, where] = worst->differences[quantity];
  return fmt::format(
      "Expected every difference from one rank within {}, but in layout {} the {} differs by {} "
      "({})",
      bound_, worst->layout, quantity_name(quantity), difference_text(value), where);
}

nlohmann::json VerificationReport::to_json(const LayoutResult& result) const {
  nlohmann::json json = {{"layout", result.layout},
                         {"ranks", result.ranks},
                         {"seconds", result.seconds},
                         {"holds", result.holds(bound_)}};
  if (!result.error.empty()) {
    json["error"] = result.error;
    return json;
  }
  for (const TracedQuantity quantity : kTracedQuantities) {
    std::string key(quantity_name(quantity));
    std::ranges::replace(key, ' ', '_');
    const auto& [value, where] = result.differences[quantity];
    json["differences"][key] = {{"largest", finite(value)}, {"where", where}};
  }
  return json;
}

}  // namespace megatron
