// Starting the ranks: from torchrun, SLURM or Open MPI, as local processes, or as threads of this
// process.
#pragma once

#include <functional>
#include <optional>

#include "megatron/config/model/launch_config.h"
#include "megatron/parallel/rank_context.h"

namespace megatron {

// The ranks that launch() starts by itself, so that a layout can be refused before they are there;
// none where a launcher's variables name this process's world.
std::optional<int> ranks_to_start(const LaunchConfig& config);

// Runs `main` on every rank of this process's part of the world and returns the exit status: 0 when
// all ranks returned 0. A rank's exception is printed once, ends the other ranks, and gives
// status 1.
//
// Where a launcher's variables name a world of several ranks, this process is one of them. Else
// --nproc N starts N ranks: with --threads-as-ranks as threads; otherwise this process runs itself
// N times, with the same arguments, and does not call `main`. Else the world is this process,
// without sockets. So call it early, before threads are started and before anything that should
// happen once. Throws Error for a configuration that cannot work, before any rank starts.
int launch(const LaunchConfig& config, const std::function<int(RankContext&)>& main);

}  // namespace megatron
