// The speed of training steps on random tokens.
#pragma once

#include <nlohmann/json.hpp>

#include "megatron/config/options/options.h"
#include "megatron/parallel/rank_context.h"

namespace megatron {

// Collective over the world. Runs the warm-up steps, then the measured ones, each a whole training
// step (forward, backward, reduction, optimizer) of one global batch. Returns, on every rank:
// ms_per_step (median), tokens_per_s, model_tflops (of the world), gemm_peak_tflops and
// gemm_peak_fraction (against the best rate of a matrix product in the run's dtype, measured in
// this run before and after the steps; left out where the steps were faster), peak_rss_mib (the
// largest of the processes), parameters_mib, gradients_mib and optimizer_state_mib (the most that a
// rank holds of each after a step), and what was run.
nlohmann::json run_bench(const Options& options, const RankContext& rank);

}  // namespace megatron
