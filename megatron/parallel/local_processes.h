// Starts the ranks of a world as processes of this machine and looks after them.
#pragma once

#include <chrono>

#include "megatron/config/model/launch_config.h"

namespace megatron {

// Runs this program again, with the same arguments, config.nproc times, with the variables that
// torchrun sets, and waits for all. The ranks end when this process does. When one fails the others
// have two seconds to notice before they are ended too; what happened is printed on standard error,
// the cause last. SIGTERM, SIGINT and SIGHUP go on to the ranks. Returns 0 if all ranks did, else
// the status of the rank that failed (128 + signal where a signal ended it). Throws Error where the
// port is in use.
int run_local_processes(const LaunchConfig& config, std::chrono::milliseconds timeout);

}  // namespace megatron
