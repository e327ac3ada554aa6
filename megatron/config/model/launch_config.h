// How the ranks of a world come to be, and what each may use of the machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace megatron {

inline constexpr int64_t kMostLocalRanks = 4096;

struct LaunchConfig {
  std::optional<int64_t> nproc;   // starts that many ranks on this machine
  bool threads_as_ranks = false;  // as threads of this process, instead of processes
  std::string device = "cpu";
  std::optional<int64_t> threads;  // compute threads of a rank
  std::string master_addr = "127.0.0.1";
  std::optional<int64_t> master_port;  // a free one where not given
  double distributed_timeout_minutes = 10;
};

}  // namespace megatron
