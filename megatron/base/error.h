// How the project reports what is wrong: "Expected X, but got Y", then what would work.
#pragma once

#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

namespace megatron {

// Something that the user or the environment got wrong. The program prints what() on its last line
// of standard error and exits with a status other than 0.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  throw Error(fmt::format(text, std::forward<Args>(args)...));
}

// Throws Error with the formatted text unless `holds`. The text is formatted only then.
template <typename... Args>
void check(bool holds, fmt::format_string<Args...> text, Args&&... args) {
  if (!holds) fail(text, std::forward<Args>(args)...);
}

// What an exception says, in one line: without the stack trace that libtorch's errors carry.
std::string error_message(const std::exception& error);

}  // namespace megatron
