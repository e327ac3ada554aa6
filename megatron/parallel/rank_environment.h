// The rank of this process, from the variables of torchrun, SLURM or Open MPI.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "megatron/config/model/launch_config.h"

namespace megatron {

struct RankIdentity {
  std::string launcher;  // "torchrun", "SLURM" or "Open MPI", for error messages
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  int local_world_size = 1;  // ranks on this machine
  std::string master_addr = "127.0.0.1";
  int master_port = 0;
  bool hosts_store = false;  // this rank serves the store
  std::string attempt;       // torchrun's restart count: separates the attempts in one store
  bool all_local() const { return local_world_size == world_size; }
};

// The value of a variable; none where it is unset or empty.
using Environment = std::function<std::optional<std::string>(const std::string&)>;
Environment process_environment();

// None where no launcher started this process. Looks for torchrun (RANK, WORLD_SIZE, ...), then
// Open MPI (OMPI_COMM_WORLD_*), then SLURM (SLURM_PROCID, SLURM_NTASKS, ...). SLURM counts only
// within a step of several tasks, not in a batch script or a shell of an allocation. Throws Error
// for incomplete or contradictory variables.
std::optional<RankIdentity> identity_from_environment(const LaunchConfig& config,
                                                      const Environment& environment);

// The first host of a SLURM list such as "gpu[03-07,9],login1".
std::string first_slurm_host(const std::string& list);

}  // namespace megatron
