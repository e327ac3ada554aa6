// Error messages in tests of invalid input.
#pragma once

#include <string>
#include <utility>

#include "megatron/base/error.h"

namespace megatron {

// The message of the Error that `action` throws, or "accepted".
template <typename Action>
std::string message_of(Action&& action) {
  try {
    std::forward<Action>(action)();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace megatron
