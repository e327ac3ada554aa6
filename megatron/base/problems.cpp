#include "megatron/base/problems.h"

#include <algorithm>

#include "megatron/base/integer_math.h"

namespace megatron {
namespace {

std::string one_or_other(int64_t below, int64_t above) {
  if (below < 1 || below == above) return fmt::format("{}", above);
  return fmt::format("{} or {}", below, above);
}

}  // namespace

void Problems::throw_if_any() const {
  if (texts_.empty()) return;
  if (texts_.size() == 1) throw Error(texts_.front());
  std::string text =
      fmt::format("Expected options that work together, but got {} problems:", texts_.size());
  for (size_t i = 0; i < texts_.size(); ++i) {
    text += fmt::format("{} ({}) {}", i == 0 ? "" : ";", i + 1, texts_[i]);
  }
  throw Error(text);
}

std::string nearest_divisors(int64_t number, int64_t value) {
  int64_t below = 1;
  int64_t above = number;
  for (int64_t small = 1; small <= number / small; ++small) {
    if (number % small != 0) continue;
    for (const int64_t divisor : {small, number / small}) {
      if (divisor <= value) below = std::max(below, divisor);
      if (divisor >= value) above = std::min(above, divisor);
    }
  }
  if (value >= number) return fmt::format("{}", number);
  return value < 1 ? "1" : one_or_other(below, above);
}

std::string nearest_multiples(int64_t factor, int64_t value) {
  const int64_t below = value / factor * factor;
  const int64_t above = round_up(value, factor);
  return one_or_other(below, above < factor ? factor : above);
}

}  // namespace megatron
