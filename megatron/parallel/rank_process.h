// One rank that is this process, in a world of several processes.
#pragma once

#include <chrono>
#include <functional>

#include "megatron/config/model/launch_config.h"
#include "megatron/parallel/rank_context.h"
#include "megatron/parallel/rank_environment.h"

namespace megatron {

// Set by start_rank_processes for its children: the process to which failures are reported.
inline constexpr const char* kLauncherVariable = "MEGATRON_LAUNCHER_PID";

// Joins the world, runs `main` and returns its status. A failure does not return: it is reported to
// the process that started the rank or printed, and ends this process at once with status 1,
// because groups with operations in flight cannot be torn down in order.
int run_rank_process(const LaunchConfig& config, const RankIdentity& identity,
                     std::chrono::milliseconds timeout,
                     const std::function<int(RankContext&)>& main);

}  // namespace megatron
