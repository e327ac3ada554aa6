// What a caller asks of the engine, and what it gets.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "megatron/config/model/gpt_model_config.h"
#include "megatron/inference/sampling.h"

namespace megatron {

inline constexpr int64_t kMostNewTokens = 1 << 24, kMostSamples = 1024;

struct InferenceRequest {
  std::vector<int64_t> prompt;  // at least one id
  int64_t max_new_tokens = 64;  // 0: only the log-probabilities of the prompt
  int64_t n = 1;                // samples: continuations of the prompt that differ in their draws
  SamplingParams sampling;
  std::vector<int64_t> stop_ids;          // end a sample; the id stays in its tokens
  std::vector<std::string> stop_strings;  // end a sample; its text ends before them
  bool logprobs = false;                  // of the output's tokens
  int64_t top_logprobs = 0;               // with logprobs: also of the most likely tokens
  bool prompt_logprobs = false;           // of the prompt's tokens
  bool echo = false;                      // the text begins with the prompt
};

// Throws Error that names the field, for a request that the model cannot serve: an empty prompt,
// ids outside the vocabulary, more tokens than it has learned positions, values out of range.
void check_request(const GPTModelConfig& config, const InferenceRequest& request);

enum class FinishReason { length, stop, cancelled, error };
std::string to_string(FinishReason reason);

struct Completion {
  std::vector<int64_t> tokens;         // without the prompt, with the stop id where it came
  std::string text;                    // empty without a tokenizer
  std::vector<TokenLogprob> logprobs;  // of `tokens`, where they were asked for
  FinishReason finish_reason = FinishReason::length;
  std::string error;  // with FinishReason::error
};

struct InferenceResult {
  int64_t request = 0;
  std::vector<Completion> completions;  // n
  // Of the prompt's tokens from the second on, where they were asked for.
  std::vector<TokenLogprob> prompt_logprobs;
};

}  // namespace megatron
