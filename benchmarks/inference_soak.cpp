// inference_soak [requests]: many small requests of mixed lengths through the engine, some cancelled
// or evicted. Prints the memory after a tenth and at the end, and fails where it grew by more than 2%
// or where an answer is not that of the request alone.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <unistd.h>

#include <ATen/Parallel.h>

#include "megatron/base/error.h"
#include "megatron/inference/inference_engine.h"
#include "megatron/inference/module_runner.h"
#include "megatron/models/gpt/gpt_builder.h"

namespace megatron {
namespace {

constexpr int64_t kKinds = 200;  // different requests

double resident_mib() {
  std::ifstream statm("/proc/self/statm");
  double total = 0, resident = 0;
  statm >> total >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1024.0 * 1024.0);
}

GPTModelConfig tiny_model() {
  GPTModelConfig config;
  config.vocab_size = 128;
  config.seq_length = 128;
  config.position_embedding_type = PositionEmbeddingType::rope;
  config.transformer.num_layers = 2;
  config.transformer.hidden_size = 32;
  config.transformer.num_attention_heads = 4;
  config.transformer.num_query_groups = 2;
  config.transformer.init_method_std = 0.2;
  return config;
}

InferenceRequest request_of_kind(int64_t kind) {
  InferenceRequest request{
      .max_new_tokens = 1 + kind * 5 % 12,
      .sampling = {.temperature = kind % 3 == 0 ? 0.0 : 0.8, .seed = static_cast<uint64_t>(kind)}};
  for (int64_t i = 0; i < 1 + kind * 7 % 40; ++i)
    request.prompt.push_back((kind % 4 + i * i) % 128);
  return request;
}

EngineOptions engine_options() {
  return {.scheduler = {.max_requests = 16, .max_tokens = 64, .chunk_size = 16}};
}

int run(int64_t requests) {
  at::set_num_threads(1);
  const GPTModelConfig config = tiny_model();
  const GPTModelChunks chunks = {
      GPTModelBuilder(config, {}).build_model(ProcessGroupCollection::single_rank())};
  ModuleRunner runner(chunks, /*block_size=*/8);
  runner.allocate(64);
  std::vector<std::vector<int64_t>> alone;
  for (int64_t kind = 0; kind < kKinds; ++kind) {
    InferenceEngine engine(runner, config, engine_options());
    engine.submit(request_of_kind(kind));
    alone.push_back(engine.run().at(0).completions.at(0).tokens);
  }
  InferenceEngine engine(runner, config, engine_options());
  double early = 0.0;
  int64_t answered = 0, cancelled = 0, wrong = 0;
  const auto take = [&] {
    for (const InferenceResult& result : engine.take_results()) {
      const Completion& completion = result.completions.at(0);
      if (completion.finish_reason == FinishReason::cancelled) {
        ++cancelled;
        continue;
      }
      ++answered;
      wrong += completion.tokens != alone.at(result.request % kKinds);
    }
  };
  for (int64_t i = 0; i < requests; ++i) {
    engine.submit(request_of_kind(i % kKinds));
    if (i % 20 == 19) engine.cancel(i - 1);
    if (i % 7 == 6) engine.evict(i - 5);
    while (engine.scheduler().waiting() > 32) engine.step();
    take();
    if (i == requests / 10) early = resident_mib();
  }
  while (engine.has_work()) engine.step();
  take();
  const double late = resident_mib();
  const SchedulerStatistics& statistics = engine.scheduler().statistics();
  std::printf(
      "{\"requests\": %ld, \"answered\": %ld, \"cancelled\": %ld, \"wrong\": %ld, \"steps\": %ld, "
      "\"evicted\": %ld, \"shared_tokens\": %ld, \"early_mib\": %.1f, \"late_mib\": %.1f}\n",
      long(requests), long(answered), long(cancelled), long(wrong), long(statistics.steps),
      long(statistics.evicted_sequences), long(statistics.shared_tokens), early, late);
  return wrong == 0 && answered + cancelled == requests && late <= 1.02 * early ? 0 : 1;
}

}  // namespace
}  // namespace megatron

int main(int argc, char** argv) {
  try {
    return megatron::run(argc > 1 ? std::atol(argv[1]) : 10'000);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
