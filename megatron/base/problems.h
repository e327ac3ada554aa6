// Collects configuration errors to report them together, and finds the nearest valid values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
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

  // Adds "Expected NAME of at least `least`, but got `value`" unless that holds. Returns whether it
  // does. `name` is a flag or a field.
  bool at_least(const char* name, int64_t value, int64_t least) {
    expect(value >= least, "Expected {} of at least {}, but got {}; {} works", name, least, value,
           least);
    return value >= least;
  }

  // Expects a size: at least 1, and small enough that products of sizes fit 64 bits.
  bool is_size(const char* name, int64_t value) {
    constexpr int64_t kMost = int64_t{1} << 30;
    expect(value <= kMost, "Expected {} of at most {}, but got {}; {} works", name, kMost, value,
           kMost);
    return at_least(name, value, 1) && value <= kMost;
  }

  // Expects a size that has no default; 0 means that it was not set.
  bool is_required_size(const char* name, int64_t value) {
    expect(value != 0,
           "Expected {} of at least 1, which is required, but got none (or 0); it has "
           "no default",
           name);
    return value != 0 && is_size(name, value);
  }

  // Runs `check`; an Error that it throws becomes a problem.
  template <typename Check>
  void collect(const Check& check) {
    try {
      check();
    } catch (const Error& error) {
      texts_.emplace_back(error.what());
    }
  }

  bool empty() const { return texts_.empty(); }

  void append(Problems other) {
    for (std::string& text : other.texts_) texts_.push_back(std::move(text));
  }

  // Replaces the text of every problem by rewrite(text).
  template <typename Rewrite>
  void rewrite_texts(const Rewrite& rewrite) {
    for (std::string& text : texts_) text = rewrite(std::string_view(text));
  }

  // Throws one Error that lists all problems on one line, if there are any.
  void throw_if_any() const;

 private:
  std::vector<std::string> texts_;
};

// The divisors of `number` nearest to `value`: "2", or "2 or 4".
std::string nearest_divisors(int64_t number, int64_t value);

// The positive multiples of `factor` nearest to `value`.
std::string nearest_multiples(int64_t factor, int64_t value);

}  // namespace megatron
