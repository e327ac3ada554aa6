// Failures of collectives and messages, and how a failure of several ranks is attributed to one.
#pragma once

#include <exception>

#include "megatron/base/error.h"

namespace megatron {

// What a rank's failure says about its cause. When several ranks fail, the one with the least kind
// is reported as the cause, the lowest rank first.
enum class FailureKind {
  own,            // raised by the rank itself
  communication,  // a mismatch between ranks, a time limit, a fault of the transport
  peer_ended      // another rank ended, and knows why
};

// A collective or message that failed.
class CommunicationError : public Error {
 public:
  // `kind` is communication or peer_ended.
  CommunicationError(FailureKind kind, const std::string& text) : Error(text), kind_(kind) {}
  FailureKind kind() const { return kind_; }

 private:
  FailureKind kind_;
};

// The kind of an exception that ended a rank.
FailureKind failure_kind(const std::exception_ptr& error);

// The kind of an exception that a transport threw. gloo and NCCL report a lost peer by text only.
FailureKind transport_failure_kind(const std::exception& error);

}  // namespace megatron
