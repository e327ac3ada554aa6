// The number of compute threads of a rank.
#pragma once

#include "megatron/config/model/launch_config.h"
#include "megatron/parallel/rank_environment.h"

namespace megatron {

// --threads, else the first number of OMP_NUM_THREADS, else the physical cores available to this
// process divided by the ranks on this machine, at least 1. Throws Error for a number below 1.
int choose_compute_threads(const LaunchConfig& config, int local_world_size,
                           const Environment& environment);

// Sets the number for operators called from the calling thread. Every rank thread must call it,
// because OpenMP and MKL keep the number per thread.
void set_compute_threads(int threads);

}  // namespace megatron
