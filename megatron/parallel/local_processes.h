// Starts the ranks of a world as processes on this machine and supervises them.
#pragma once

#include <chrono>

#include "megatron/config/model/launch_config.h"

namespace megatron {

// Runs this program config.nproc times with the same arguments and torchrun's variables, and waits
// for all. The ranks end when this process does. After a failure the other ranks have two seconds
// to end before they are killed; the failures are printed on standard error, the likeliest cause
// last. SIGTERM, SIGINT and SIGHUP are forwarded to the ranks. Returns 0 where all ranks did, else
// the exit status of the cause (128 + signal where a signal ended it). Throws Error where the port
// is in use.
int run_local_processes(const LaunchConfig& config, std::chrono::milliseconds timeout);

}  // namespace megatron
