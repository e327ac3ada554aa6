// Measures the speed of training steps on random tokens.
#pragma once

#include <nlohmann/json.hpp>

#include "megatron/config/options/options.h"
#include "megatron/parallel/rank_context.h"

namespace megatron {

// Runs the warm-up steps, then the measured ones: forward, backward, gradient reduction and
// optimizer update of one global batch each. Collective over the world. Returns on every rank
//   ms_per_step           median
//   tokens_per_s, model_tflops, gemm_peak_tflops   of all ranks; the peak is the best GEMM
//                         rate in the run's dtype, measured before and after the steps
//   gemm_peak_fraction    model_tflops over the peak; absent where the steps were faster
//   peak_rss_mib          maximum over the processes
//   parameters_mib, gradients_mib, optimizer_state_mib   maximum over the ranks, after a step
// and the sizes, dtype and layout of the run.
nlohmann::json run_bench(const Options& options, const RankContext& rank);

}  // namespace megatron
