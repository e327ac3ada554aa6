// The weights in --split, e.g. 969,30,1.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>
#include <system_error>

namespace megatron {

// Up to three non-negative numbers, separated by a comma, a slash or spaces; spaces may surround
// each. The missing ones are 0. Quotes around the whole are ignored: scripts of Megatron-LM pass
// them on. nullopt for any other text and if no weight is above 0.
inline std::optional<std::array<double, 3>> parse_split_weights(std::string_view text) {
  constexpr std::string_view kBlanks = " \t";
  if (text.size() > 1 && (text.front() == '\'' || text.front() == '"') &&
      text.back() == text.front()) {
    text = text.substr(1, text.size() - 2);
  }
  std::array<double, 3> weights{};
  size_t count = 0;
  size_t i = std::min(text.find_first_not_of(kBlanks), text.size());
  while (true) {
    const size_t end = std::min(text.find_first_not_of("0123456789.", i), text.size());
    if (count == weights.size() || end == i) return std::nullopt;
    const char* const last = text.data() + end;
    const auto [stop, error] =
        std::from_chars(text.data() + i, last, weights[count++], std::chars_format::fixed);
    if (error != std::errc{} || stop != last) return std::nullopt;
    i = std::min(text.find_first_not_of(kBlanks, end), text.size());
    if (i == text.size()) break;
    if (text[i] == ',' || text[i] == '/') {
      i = std::min(text.find_first_not_of(kBlanks, i + 1), text.size());
    } else if (i == end) {
      return std::nullopt;
    }
  }
  // Summed from the left in double, as Megatron does.
  const double sum = weights[0] + weights[1] + weights[2];
  if (!(sum > 0) || !std::isfinite(sum)) return std::nullopt;
  return weights;
}

}  // namespace megatron
