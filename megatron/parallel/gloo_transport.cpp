// The only file that includes gloo's headers, which are slow to compile.
#include "megatron/parallel/gloo_transport.h"

#include <algorithm>
#include <cstdlib>

#include <fmt/ranges.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "megatron/base/error.h"

namespace megatron {

GlooTransport::GlooTransport(c10::intrusive_ptr<c10d::Store> store, int rank,
                             std::chrono::milliseconds timeout, bool loopback)
    : store_(std::move(store)), rank_(rank), timeout_(timeout), loopback_(loopback) {}

c10::intrusive_ptr<c10d::Backend> GlooTransport::make_backend(const std::string& name,
                                                              const std::vector<int>& ranks) {
  using c10d::ProcessGroupGloo;
  const auto place = std::find(ranks.begin(), ranks.end(), rank_);
  check(place != ranks.end(), "Expected rank {} among the ranks [{}] of group {}", rank_,
        fmt::join(ranks, ", "), name);
  if (!device_) {
    const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
    if (loopback_) {
      device_ = ProcessGroupGloo::createDeviceForHostname("127.0.0.1");
    } else if (interface != nullptr && *interface != '\0') {
      device_ = ProcessGroupGloo::createDeviceForInterface(interface);
    } else {
      device_ = ProcessGroupGloo::createDefaultDevice();
    }
  }
  auto options = ProcessGroupGloo::Options::create(timeout_);
  options->devices = {device_};
  options->threads = 1;  // runs the operations of a group in the order of their start
  options->group_name = name;
  const std::string key = fmt::format("{}[{}]", name, fmt::join(ranks, ","));
  auto store =
      c10::make_intrusive<c10d::PrefixStore>(fmt::format("{}#{}", key, made_[key]++), store_);
  return backends_.emplace_back(c10::make_intrusive<ProcessGroupGloo>(
      store, static_cast<int>(place - ranks.begin()), static_cast<int>(ranks.size()), options));
}

}  // namespace megatron
