// Measures the speed of prefill and decode.
#pragma once

#include <nlohmann/json.hpp>

#include "megatron/inference/decode_weights.h"

namespace megatron {

struct DecodeBenchOptions {
  int64_t prompt_tokens = 512;  // of each sequence
  int64_t new_tokens = 128;     // of each sequence, one a step, chosen greedily
  int64_t batch = 1;            // sequences
  int64_t warmup = 1, repeats = 5;
  std::optional<WeightFormat> weights = {};  // default: the model's dtype
};

// Runs prefill, then decode, `warmup` + `repeats` times on random prompts, on the calling thread's
// intra-op threads. Medians:
//   decode_tokens_per_s    of all sequences together
//   prefill_tokens_per_s   the same, of the prompts' tokens
//   bandwidth_fraction     bytes of weights and cache that decode reads a second, over
//                          read_bandwidth_gb_per_s
//   read_bandwidth_gb_per_s   10^9 bytes that a read loop on all threads reads a second, measured
//                          before and after
// and the sizes and dtypes of the run. Throws Error for a model that reason_against_fast_runner()
// refuses, and for sequences longer than its learned positions.
nlohmann::json run_decode_bench(const GPTModel& model, const DecodeBenchOptions& options);

}  // namespace megatron
