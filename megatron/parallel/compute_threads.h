// How many threads a rank computes with.
#pragma once

#include "megatron/config/model/launch_config.h"
#include "megatron/parallel/rank_environment.h"

namespace megatron {

// --threads, else OMP_NUM_THREADS (its first number), else the physical cores that this process may
// use over the ranks on this machine, at least 1. Throws Error for numbers below 1.
int choose_compute_threads(const LaunchConfig& config, int local_world_size,
                           const Environment& environment);

// Sets the number for operators called from the calling thread. Every rank thread calls it: OpenMP
// and MKL keep the number by thread.
void set_compute_threads(int threads);

}  // namespace megatron
