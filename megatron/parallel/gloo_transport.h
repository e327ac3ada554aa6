// Groups of processes over gloo (TCP), for CPU tensors.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "megatron/parallel/rank_context.h"

namespace gloo::transport {
class Device;
}

namespace megatron {

class GlooTransport final : public Transport {
 public:
  // `loopback`: all ranks are on this machine. Otherwise gloo uses the interface that
  // GLOO_SOCKET_IFNAME names, or the one that this machine's name resolves to.
  GlooTransport(c10::intrusive_ptr<c10d::Store> store, int rank, std::chrono::milliseconds timeout,
                bool loopback);
  c10::intrusive_ptr<c10d::Backend> make_backend(const std::string& name,
                                                 const std::vector<int>& ranks) override;
  std::string kind() const override { return "gloo"; }

 private:
  c10::intrusive_ptr<c10d::Store> store_;
  int rank_;
  std::chrono::milliseconds timeout_;
  bool loopback_;
  std::shared_ptr<gloo::transport::Device> device_;  // shared by all groups
  std::map<std::string, int> made_;
  // Kept until the rank ends, because destroying a group waits for its operations in flight.
  std::vector<c10::intrusive_ptr<c10d::Backend>> backends_;
};

}  // namespace megatron
