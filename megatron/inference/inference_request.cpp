#include "megatron/inference/inference_request.h"

#include "megatron/base/error.h"

namespace megatron {

void check_request(const GPTModelConfig& config, const InferenceRequest& request) {
  const auto prompt_length = static_cast<int64_t>(request.prompt.size());
  const int64_t limit = config.max_sequence_length(), vocab_size = *config.vocab_size;
  check(prompt_length > 0, "Expected a prompt of at least one token, but got none");
  for (const int64_t id : request.prompt) {
    check(id >= 0 && id < vocab_size,
          "Expected a prompt of ids below the model's vocabulary size {}, but got id {}",
          vocab_size, id);
  }
  const int64_t least = request.prompt_logprobs ? 0 : 1;
  check(request.max_new_tokens >= least && request.max_new_tokens <= kMostNewTokens,
        "Expected max_new_tokens of {} to {}, but got {}", least, kMostNewTokens,
        request.max_new_tokens);
  check(request.n >= 1 && request.n <= kMostSamples, "Expected n of 1 to {}, but got {}",
        kMostSamples, request.n);
  check(request.top_logprobs >= 0, "Expected top_logprobs of at least 0, but got {}",
        request.top_logprobs);
  check_sampling(request.sampling, vocab_size);
  check(config.position_embedding_type != PositionEmbeddingType::learned_absolute ||
            prompt_length + request.max_new_tokens <= limit,
        "Expected prompt and continuation within the model's {} positions, but got {} + {}; {}",
        limit, prompt_length, request.max_new_tokens,
        prompt_length < limit
            ? fmt::format("max_new_tokens={} works", limit - prompt_length)
            : fmt::format("a prompt of {} tokens with max_new_tokens=1 works", limit - 1));
}

std::string to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::length:
      return "length";
    case FinishReason::stop:
      return "stop";
    case FinishReason::cancelled:
      return "cancelled";
    case FinishReason::error:
      return "error";
  }
  fail("Expected a known finish reason");
}

}  // namespace megatron
