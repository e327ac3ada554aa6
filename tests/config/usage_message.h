// What the tests of bad input share.
#pragma once

#include <string>
#include <utility>

#include "megatron/base/error.h"

namespace megatron {

// The message of the Error that `action` throws; "accepted" where it throws none.
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
