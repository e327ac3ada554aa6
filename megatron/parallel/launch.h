// Starts the ranks: under torchrun, SLURM or Open MPI, as local processes, or as threads.
#pragma once

#include <functional>
#include <optional>

#include "megatron/config/model/launch_config.h"
#include "megatron/parallel/rank_context.h"

namespace megatron {

// How many ranks launch() starts itself, so that a layout can be refused before they exist. None
// under a launcher, whose variables give the world size.
std::optional<int> ranks_to_start(const LaunchConfig& config);

// Runs `main` on every rank in this process and returns the exit status: 0 where all ranks returned
// 0. A rank's exception ends the other ranks, is printed once, and gives status 1.
//
// Under a launcher with several ranks, this process is one rank. Otherwise --nproc N starts N
// ranks: as threads with --threads-as-ranks, else as N processes that run this program with the
// same arguments; then this process does not call `main`. Without --nproc the world is this
// process, without sockets.
//
// Call it before threads start and before anything that must happen once. Throws Error for a
// configuration that cannot work, before any rank starts.
int launch(const LaunchConfig& config, const std::function<int(RankContext&)>& main);

}  // namespace megatron
