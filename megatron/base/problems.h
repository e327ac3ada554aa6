// Collects what is wrong with the options, so that all of it can be said at once, and finds the
// nearest values that work.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "megatron/base/error.h"

namespace megatron {

class Problems {
 public:
  template <typename... Args>
  void expect(bool holds, fmt::format_string<Args...> text, Args&&... args) {
    if (!holds) texts_.push_back(fmt::format(text, std::forward<Args>(args)...));
  }

  // "Expected --flag of at least `least`, but got `value`". Returns whether that holds.
  bool at_least(const char* flag, int64_t value, int64_t least) {
    expect(value >= least, "Expected {} of at least {}, but got {}; {} works", flag, least, value,
           least);
    return value >= least;
  }

  // A size of the model or the run: at least 1, and small enough that products of sizes fit 64
  // bits.
  bool is_size(const char* flag, int64_t value) {
    constexpr int64_t kMost = int64_t{1} << 30;
    expect(value <= kMost, "Expected {} of at most {}, but got {}; {} works", flag, kMost, value,
           kMost);
    return at_least(flag, value, 1) && value <= kMost;
  }

  // A size without a default, 0 where it was not given. Returns whether it is one.
  bool is_required_size(const char* flag, int64_t value) {
    expect(
        value != 0,
        "Expected {} of at least 1, which is required, but got none (or 0); give it as a flag or "
        "in a file with --config",
        flag);
    return value != 0 && is_size(flag, value);
  }

  bool empty() const { return texts_.empty(); }

  // Throws Error with all that was found, in one line; returns where nothing was.
  void throw_if_any() const;

 private:
  std::vector<std::string> texts_;
};

// The divisors of `number` next to `value`: "2", or "2 or 4".
std::string nearest_divisors(int64_t number, int64_t value);

// The positive multiples of `factor` next to `value`.
std::string nearest_multiples(int64_t factor, int64_t value);

}  // namespace megatron
