// Runs one rank as this process, in a world of several processes.
#pragma once

#include <chrono>
#include <functional>

#include "megatron/config/model/launch_config.h"
#include "megatron/parallel/rank_context.h"
#include "megatron/parallel/rank_environment.h"

namespace megatron {

// Set by run_local_processes for its children: the id of the process to which they report failures.
inline constexpr const char* kLauncherVariable = "MEGATRON_LAUNCHER_PID";

// Joins the world, runs `main` and returns its status. On a failure it does not return: it reports
// to the process that started the rank, or prints, and ends this process with status 1 without
// destructors, since groups with operations in flight cannot be torn down in order.
int run_rank_process(const LaunchConfig& config, const RankIdentity& identity,
                     std::chrono::milliseconds timeout,
                     const std::function<int(RankContext&)>& main);

}  // namespace megatron
