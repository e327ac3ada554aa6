// Requests in, tokens out: the engine drives a ModelRunner by a Scheduler and samples.
//
// It runs on one rank. Where a model spans several, a DistributedRunner takes the steps to the
// others (distributed_runner.h).
#pragma once

#include <functional>
#include <memory>
#include <unordered_map>

#include "megatron/inference/inference_request.h"
#include "megatron/inference/model_runner.h"
#include "megatron/inference/scheduler.h"
#include "megatron/inference/stop_strings.h"
#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

struct EngineOptions {
  // Its block_size and num_blocks are those of the runner, its positions those of the model.
  SchedulerConfig scheduler = {};
  const Tokenizer* tokenizer = nullptr;  // of texts and stop strings; null: ids only
  // [up to vocab_size] bool: the ids that may be sampled. Undefined: all.
  at::Tensor known_ids = {};
};

class InferenceEngine {
 public:
  // Called after each step for each new token. `text` is what the token adds and no stop string can
  // take back. It may call cancel().
  using OnToken =
      std::function<void(int64_t request, int64_t sample, int64_t token, const std::string& text)>;

  // The runner must outlive the engine. Throws Error as check_scheduler_config.
  InferenceEngine(ModelRunner& runner, const GPTModelConfig& config, EngineOptions options);

  // Queues a request and returns its number. Throws Error as check_request, for one that does not
  // fit into the cache, and for stop strings without a tokenizer; the engine goes on.
  int64_t submit(InferenceRequest request);
  // Ends a request; its result has the tokens so far. Unknown requests are ignored.
  void cancel(int64_t request);
  // A paused request is not computed. It keeps its blocks while no other needs them.
  void pause(int64_t request);
  void resume(int64_t request);
  // Releases a request's blocks; it computes them again once it runs.
  void evict(int64_t request);

  void on_token(OnToken callback) { on_token_ = std::move(callback); }

  bool has_work() const { return scheduler_.has_work(); }
  // Runs one step. Does nothing without work. An error of the runner is thrown; an error of one
  // sample (logits that are not finite) ends that sample.
  void step();
  // The results since the last call, in the order in which they were completed.
  std::vector<InferenceResult> take_results();
  // Steps until all requests that are not paused are done, and returns the results.
  std::vector<InferenceResult> run();

  const Scheduler& scheduler() const { return scheduler_; }

 private:
  struct Request {
    InferenceRequest request;
    InferenceResult result;
    std::vector<int64_t> sequences;  // by sample
    int64_t open = 0;                // samples that have not ended
  };
  struct Sample {
    int64_t request = 0, index = 0;
    StopStrings stops;
  };
  struct Ended {
    int64_t sequence;
    FinishReason reason;
    std::string error;
  };
  struct Event {
    int64_t request, sample, token;
    std::string text;
  };

  // Samples one token, records it, and returns whether the sample ends with it.
  bool sample_next(int64_t sequence, const at::Tensor& logits, std::vector<Event>& events);
  NextTokens sample_row(const ScheduledRow& row, std::span<const int64_t> drafts,
                        const at::Tensor& logits, std::vector<Event>& events);
  void record_prompt_logprobs(const ScheduledRow& row, const at::Tensor& logits);
  void finish(int64_t sequence, FinishReason reason, const std::string& error = "");
  template <typename Function>
  void for_open_sequences(int64_t request, Function&& function);

  ModelRunner& runner_;
  GPTModelConfig config_;
  EngineOptions options_;
  Scheduler scheduler_;
  OnToken on_token_;
  int64_t next_request_ = 0, next_sequence_ = 0;
  std::unordered_map<int64_t, Request> requests_;
  std::unordered_map<int64_t, Sample> samples_;  // by sequence; those that have not ended
  std::vector<Ended> ended_;                     // in the step that runs
  std::vector<InferenceResult> results_;
};

// The scheduler's settings that follow from a runner and a model.
SchedulerConfig scheduler_config_for(SchedulerConfig config, const ModelRunner& runner,
                                     const GPTModelConfig& model);

}  // namespace megatron
