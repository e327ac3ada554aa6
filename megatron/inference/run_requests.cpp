#include "megatron/inference/run_requests.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/base/human_bytes.h"
#include "megatron/base/integer_math.h"
#include "megatron/inference/distributed_runner.h"
#include "megatron/inference/fast_model_runner.h"
#include "megatron/inference/module_runner.h"
#include "megatron/parallel/object_collectives.h"

namespace megatron {
namespace {

InferenceResult refused(int64_t index, const std::string& reason) {
  InferenceResult result{.request = index};
  result.completions.push_back({.finish_reason = FinishReason::error, .error = reason});
  return result;
}

// Blocks that the requests use at once if none shares its prompt.
int64_t blocks_wanted(const std::vector<InferenceRequest>& requests, int64_t block_size) {
  int64_t blocks = 1;
  for (const InferenceRequest& request : requests) {
    const int64_t tokens =
        std::ssize(request.prompt) + std::clamp<int64_t>(request.max_new_tokens, 1, kMostNewTokens);
    blocks += std::clamp<int64_t>(request.n, 1, kMostSamples) * ceil_div(tokens - 1, block_size);
  }
  return blocks;
}

// This rank's runner, with `wanted` blocks or as many as fit into the buffer: the fast one for the
// models that it knows.
std::unique_ptr<ModelRunner> make_runner(const GPTModelChunks& chunks, int64_t wanted,
                                         const RunRequestsOptions& options) {
  const int64_t block_size = options.scheduler.block_size;
  const auto blocks = [&](int64_t bytes_per_block) {
    if (options.buffer_bytes == 0) return wanted;
    return std::min(wanted, blocks_in_buffer(options.buffer_bytes, bytes_per_block, block_size));
  };
  const GPTModel& model = *chunks.front();
  if (chunks.size() == 1 && reason_against_fast_runner(model).empty()) {
    const int64_t bytes = FastModelRunner::block_bytes(
        model.config(), block_size, c10::typeMetaToScalarType(model.tensor_options().dtype()));
    return std::make_unique<FastModelRunner>(
        model, FastModelRunnerOptions{.block_size = block_size, .num_blocks = blocks(bytes)});
  }
  auto runner = std::make_unique<ModuleRunner>(chunks, block_size);
  runner->allocate(blocks(runner->bytes_per_block()));
  return runner;
}

std::map<int64_t, InferenceResult> run_share(ModelRunner& runner, const GPTModelConfig& config,
                                             const std::vector<InferenceRequest>& requests,
                                             const StepRanks& ranks,
                                             const RunRequestsOptions& options,
                                             SchedulerStatistics& statistics) {
  InferenceEngine engine(runner, config,
                         {.scheduler = options.scheduler,
                          .tokenizer = options.tokenizer,
                          .known_ids = options.known_ids});
  std::map<int64_t, InferenceResult> results;
  std::map<int64_t, int64_t> index_of;  // by the engine's number
  const int64_t stride = options.share_out ? ranks.replicas : 1;
  for (int64_t i = options.share_out ? ranks.replica : 0; i < std::ssize(requests); i += stride) {
    try {
      index_of[engine.submit(requests[i])] = i;
    } catch (const Error& error) {
      results[i] = refused(i, error.what());
    }
  }
  if (options.on_token) {
    engine.on_token([&](int64_t request, int64_t sample, int64_t token, const std::string& text) {
      options.on_token(index_of.at(request), sample, token, text);
    });
  }
  for (InferenceResult& result : engine.run()) {
    result.request = index_of.at(result.request);
    results[result.request] = std::move(result);
  }
  statistics = engine.scheduler().statistics();
  return results;
}

}  // namespace

std::map<int64_t, std::string> gather_by_request(const std::map<int64_t, std::string>& own,
                                                 const ProcessGroup& world) {
  nlohmann::json object = nlohmann::json::object();
  for (const auto& [index, text] : own) object[std::to_string(index)] = text;
  std::map<int64_t, std::string> all;
  for (const std::string& part : all_gather_strings(object.dump(), world)) {
    const auto parsed = nlohmann::json::parse(part);
    for (const auto& [index, text] : parsed.items())
      all[std::stoll(index)] = text.get<std::string>();
  }
  return all;
}

int64_t blocks_in_buffer(int64_t buffer_bytes, int64_t bytes_per_block, int64_t block_size) {
  const int64_t blocks = buffer_bytes / bytes_per_block;
  check(
      blocks >= 1,
      "Expected a key-value cache of at least one block of {} tokens, which is {}, but got {}; {} "
      "bytes work",
      block_size, human_bytes(bytes_per_block), human_bytes(buffer_bytes), bytes_per_block);
  return blocks;
}

RequestsOutcome run_requests(const GPTModelChunks& chunks,
                             const std::vector<InferenceRequest>& requests,
                             const RunRequestsOptions& options) {
  const GPTModel& model = *chunks.front();
  const StepRanks ranks = step_ranks(model.groups());
  check_scheduler_config(options.scheduler);
  const auto local =
      make_runner(chunks, blocks_wanted(requests, options.scheduler.block_size), options);
  DistributedRunner runner(*local, ranks, model.groups());
  RequestsOutcome outcome;
  if (!ranks.schedules()) {
    runner.serve();
    return outcome;
  }
  outcome.results = run_share(runner, model.config(), requests, ranks, options, outcome.statistics);
  runner.stop();
  return outcome;
}

}  // namespace megatron
