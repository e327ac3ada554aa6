// Error reporting. Messages read "Expected X, but got Y; what would work".
#pragma once

#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

namespace megatron {

// An error caused by the user's input or the environment. The program prints what() as the last
// line on standard error and exits with a nonzero status.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  throw Error(fmt::format(text, std::forward<Args>(args)...));
}

// Throws Error with the formatted text if `holds` is false. Formats the text only in that case.
template <typename... Args>
void check(bool holds, fmt::format_string<Args...> text, Args&&... args) {
  if (!holds) fail(text, std::forward<Args>(args)...);
}

// The message of an exception on one line, without libtorch's stack trace.
std::string error_message(const std::exception& error);

}  // namespace megatron
