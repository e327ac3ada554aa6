#include "megatron/base/human_bytes.h"

#include <array>

#include <fmt/format.h>

namespace megatron {

std::string human_bytes(int64_t bytes) {
  constexpr std::array units = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < units.size()) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", value, unit == 0 ? 0 : 1, units[unit]);
}

std::string human_parameters(int64_t count) {
  constexpr std::array suffixes = {"K", "M", "B", "T"};
  if (count < 1000) return fmt::format("{}", count);
  double value = static_cast<double>(count) / 1000;
  size_t suffix = 0;
  // 999.995 would print as 1000.00 with two decimals.
  while (value >= 999.995 && suffix + 1 < suffixes.size()) {
    value /= 1000;
    ++suffix;
  }
  return fmt::format("{:.2f}{}", value, suffixes[suffix]);
}

}  // namespace megatron
