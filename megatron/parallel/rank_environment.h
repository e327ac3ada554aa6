// Who this process is, by the variables that torchrun, SLURM and Open MPI set.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "megatron/config/model/launch_config.h"

namespace megatron {

struct RankIdentity {
  std::string launcher;  // "torchrun", "SLURM" or "Open MPI", for messages
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  int local_world_size = 1;  // ranks on this machine
  std::string master_addr = "127.0.0.1";
  int master_port = 0;
  bool hosts_store = false;  // this rank serves the store that the ranks meet at
  std::string attempt;       // torchrun's restart count: keeps attempts apart in one store
  bool all_local() const { return local_world_size == world_size; }
};

// The value of a variable, if it is set and not empty.
using Environment = std::function<std::optional<std::string>(const std::string&)>;
Environment process_environment();

// None where no launcher started this process. Takes the first that is there of torchrun (RANK,
// WORLD_SIZE, ...), Open MPI (OMPI_COMM_WORLD_*) and SLURM (SLURM_PROCID, SLURM_NTASKS, ..., inside
// a step of several tasks; a batch script or a shell in an allocation is not one). Throws Error for
// variables that are incomplete or contradict each other.
std::optional<RankIdentity> identity_from_environment(const LaunchConfig& config,
                                                      const Environment& environment);

// The first host of a SLURM list such as "gpu[03-07,9],login1".
std::string first_slurm_host(const std::string& list);

}  // namespace megatron
