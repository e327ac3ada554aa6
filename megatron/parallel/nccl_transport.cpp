// Built only with CUDA. NCCL's watchdog thread ends an operation that exceeds the time limit.
#include "megatron/parallel/nccl_transport.h"

#include <algorithm>

#include <fmt/ranges.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "megatron/base/error.h"

namespace megatron {

NcclTransport::NcclTransport(c10::intrusive_ptr<c10d::Store> store, int rank, at::Device device,
                             std::chrono::milliseconds timeout)
    : store_(std::move(store)), rank_(rank), device_(device), timeout_(timeout) {}

c10::intrusive_ptr<c10d::Backend> NcclTransport::make_backend(const std::string& name,
                                                              const std::vector<int>& ranks) {
  const auto place = std::find(ranks.begin(), ranks.end(), rank_);
  check(place != ranks.end(), "Expected rank {} among the ranks [{}] of group {}", rank_,
        fmt::join(ranks, ", "), name);
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout_;
  options->group_name = name;
  options->global_ranks_in_group.assign(ranks.begin(), ranks.end());
  const std::string key = fmt::format("{}[{}]", name, fmt::join(ranks, ","));
  c10::intrusive_ptr<c10d::Store> store =
      c10::make_intrusive<c10d::PrefixStore>(fmt::format("{}#{}", key, made_[key]++), store_);
  auto backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(
      store, static_cast<int>(place - ranks.begin()), static_cast<int>(ranks.size()), options);
  backend->setBoundDeviceId(device_);
  return backend;
}

c10::intrusive_ptr<c10d::Backend> NcclTransport::make_link(const std::string& name,
                                                           const std::vector<int>& ranks) {
  auto backend = make_backend(name, ranks);
  // Without this the first message connects, which blocks the host threads of both ranks: stages
  // that wait for each other's first messages on different links would deadlock.
  backend->eagerConnectSingleDevice(device_);
  return backend;
}

}  // namespace megatron
