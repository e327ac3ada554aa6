// Text generation with a key-value cache, over tensor-, pipeline- and data-parallel ranks.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "megatron/inference/sampling.h"
#include "megatron/models/gpt/gpt_builder.h"

namespace megatron {

struct GenerateRequest {
  std::vector<int64_t> prompt;  // at least one id
  int64_t num_samples = 1;      // continuations of the one prompt, decoded together
  int64_t max_new_tokens = 0;
  std::optional<int64_t> end_token;  // a continuation ends with it
  SamplingParams sampling;
};

// Throws Error for a request that the model cannot answer: no prompt, or more than its positions.
void check_request(const GPTModelConfig& config, const GenerateRequest& request);

// `chunks` are this rank's part of the model. Collective over its groups: every rank gives the same
// request and gets the same continuations (without the prompt; with the end token where it came).
// `on_token` is called after each step with the tokens of all samples, on every rank. Throws Error
// as check_request does.
std::vector<std::vector<int64_t>> generate(
    const GPTModelChunks& chunks, const GenerateRequest& request,
    const std::function<void(const std::vector<int64_t>&)>& on_token = {});

}  // namespace megatron
