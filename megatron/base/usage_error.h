// The error of an invalid command line, configuration file or value of a configuration's field.
#pragma once

#include <string>
#include <utility>

#include "megatron/base/error.h"

namespace megatron {

// The program exits with status 2.
class UsageError : public Error {
 public:
  using Error::Error;
  // `details`: newline-terminated lines to print before the message.
  UsageError(const std::string& message, std::string details)
      : Error(message), details_(std::move(details)) {}

  const std::string& details() const { return details_; }

 private:
  std::string details_;
};

}  // namespace megatron
