// How ranks are launched, and the resources of each.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace megatron {

inline constexpr int64_t kMostLocalRanks = 4096;

struct LaunchConfig {
  std::optional<int64_t> nproc;   // ranks to start on this machine
  bool threads_as_ranks = false;  // ranks are threads of this process
  std::string device = "cpu";
  std::optional<int64_t> threads;  // compute threads per rank
  std::string master_addr = "127.0.0.1";
  std::optional<int64_t> master_port;  // default: a free port
  double distributed_timeout_minutes = 10;
};

}  // namespace megatron
