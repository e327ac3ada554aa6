#include "megatron/inference/generate.h"

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/inference/distributed_runner.h"
#include "megatron/inference/run_requests.h"

namespace megatron {
namespace {

InferenceRequest request_of(const GenerateRequest& request) {
  InferenceRequest result{.prompt = request.prompt,
                          .max_new_tokens = request.max_new_tokens,
                          .n = request.num_samples,
                          .sampling = request.sampling};
  if (request.end_token) result.stop_ids = {*request.end_token};
  return result;
}

// The scheduling rank's continuations, on all ranks of its group.
void broadcast(std::vector<std::vector<int64_t>>& continuations, int64_t most,
               const ProcessGroup& group) {
  const auto samples = static_cast<int64_t>(continuations.size());
  at::Tensor padded = at::full({samples, most}, -1, at::kLong);
  for (int64_t i = 0; i < samples; ++i) {
    for (int64_t j = 0; j < std::ssize(continuations[i]); ++j) padded[i][j] = continuations[i][j];
  }
  padded = padded.to(group.device());
  group.broadcast(padded, 0);
  padded = padded.to(at::kCPU);
  for (int64_t i = 0; i < samples; ++i) {
    const int64_t* tokens = padded[i].const_data_ptr<int64_t>();
    continuations[i].assign(tokens, std::find(tokens, tokens + most, -1));
  }
}

}  // namespace

void check_request(const GPTModelConfig& config, const GenerateRequest& request) {
  check_request(config, request_of(request));
  check(!config.transformer.sequence_parallel,
        "Expected generation without sequence parallelism, but got sequence_parallel");
  check(!request.known_ids.defined() ||
            (request.known_ids.dim() == 1 && request.known_ids.size(0) <= *config.vocab_size),
        "Expected known_ids of at most the model's {} ids, but got shape {}", *config.vocab_size,
        request.known_ids.defined() ? request.known_ids.sizes().vec() : std::vector<int64_t>());
}

std::vector<std::vector<int64_t>> generate(const GPTModelChunks& chunks,
                                           const GenerateRequest& request) {
  const GPTModel& model = *chunks.front();
  check_request(model.config(), request);
  const RequestsOutcome outcome = run_requests(
      chunks, {request_of(request)}, {.known_ids = request.known_ids, .share_out = false});
  std::vector<std::vector<int64_t>> continuations(request.num_samples);
  if (const auto found = outcome.results.find(0); found != outcome.results.end()) {
    for (int64_t i = 0; i < std::ssize(found->second.completions); ++i) {
      const Completion& completion = found->second.completions[i];
      check(completion.error.empty(), "{}", completion.error);
      continuations[i] = completion.tokens;
    }
  }
  broadcast(continuations, request.max_new_tokens, *step_ranks(model.groups()).group);
  return continuations;
}

}  // namespace megatron
