// Continuations of one prompt, the same on all ranks of a model: a short form of run_requests().
#pragma once

#include <optional>
#include <vector>

#include "megatron/inference/sampling.h"
#include "megatron/models/gpt/gpt_builder.h"

namespace megatron {

struct GenerateRequest {
  std::vector<int64_t> prompt;  // at least one id
  int64_t num_samples = 1;      // continuations of the prompt
  int64_t max_new_tokens = 0;
  std::optional<int64_t> end_token;  // ends a continuation
  SamplingParams sampling;
  // [v] bool, v up to the model's vocabulary: the ids that have text in the tokenizer. Other ids
  // are never sampled. Undefined: every id of the model is.
  at::Tensor known_ids;
};

// Throws Error for a request that the model cannot serve: an empty prompt, more tokens than it has
// learned positions, more known ids than its vocabulary, sampling values out of range.
void check_request(const GPTModelConfig& config, const GenerateRequest& request);

// `chunks` are this rank's part of the model. Collective over its groups: every rank passes the
// same request and gets the same continuations, without the prompt and with the end token where it
// came. Throws Error as check_request does.
std::vector<std::vector<int64_t>> generate(const GPTModelChunks& chunks,
                                           const GenerateRequest& request);

}  // namespace megatron
