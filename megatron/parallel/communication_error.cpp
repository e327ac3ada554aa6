#include "megatron/parallel/communication_error.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace megatron {

FailureKind failure_kind(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const CommunicationError& failure) {
    return failure.kind();
  } catch (...) {
    return FailureKind::own;
  }
}

FailureKind transport_failure_kind(const std::exception& error) {
  if (const auto* failure = dynamic_cast<const CommunicationError*>(&error)) return failure->kind();
  constexpr std::array<std::string_view, 4> kLostPeer = {"onnection closed", "onnection reset",
                                                         "roken pipe", "remote process exited"};
  const std::string_view text = error.what();
  const bool lost = std::ranges::any_of(kLostPeer, [&](std::string_view phrase) {
    return text.find(phrase) != std::string_view::npos;
  });
  return lost ? FailureKind::peer_ended : FailureKind::communication;
}

}  // namespace megatron
