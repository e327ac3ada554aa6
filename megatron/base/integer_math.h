// Integer division of sizes.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace megatron {

// numerator / denominator, rounded up. numerator >= 0, denominator > 0.
template <std::integral T>
constexpr T ceil_div(T numerator, std::type_identity_t<T> denominator) {
  return (numerator + denominator - 1) / denominator;
}

// The least multiple of `multiple` that is at least `value`. value >= 0, multiple > 0.
template <std::integral T>
constexpr T round_up(T value, std::type_identity_t<T> multiple) {
  return ceil_div(value, multiple) * multiple;
}

// numerator / denominator. Throws Error, which calls the numerator `name`, on a remainder.
int64_t divide(int64_t numerator, int64_t denominator, const char* name);

}  // namespace megatron
