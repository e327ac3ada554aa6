#include "megatron/inference/inference_engine.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "megatron/base/error.h"

namespace megatron {

SchedulerConfig scheduler_config_for(SchedulerConfig config, const ModelRunner& runner,
                                     const GPTModelConfig& model) {
  config.block_size = runner.block_size();
  config.num_blocks = runner.num_blocks();
  config.length_dependent_positions =
      model.has_longrope() || model.rope_dynamic_scaling_factor.has_value();
  if (model.has_longrope())
    config.recompute_length = model.rope_scaling_original_max_position_embeddings;
  return config;
}

InferenceEngine::InferenceEngine(ModelRunner& runner, const GPTModelConfig& config,
                                 EngineOptions options)
    : runner_(runner),
      config_(config),
      options_(std::move(options)),
      scheduler_(scheduler_config_for(options_.scheduler, runner, config)) {
  check(!options_.known_ids.defined() ||
            (options_.known_ids.dim() == 1 && options_.known_ids.size(0) <= *config_.vocab_size),
        "Expected known_ids of at most the model's {} ids, but got shape {}", *config_.vocab_size,
        options_.known_ids.defined() ? options_.known_ids.sizes().vec() : std::vector<int64_t>());
}

int64_t InferenceEngine::submit(InferenceRequest request) {
  check_request(config_, request);
  check(request.stop_strings.empty() || options_.tokenizer != nullptr,
        "Expected a tokenizer for stop strings, but got none; stop_ids work without");
  const StopStrings stops(request.stop_strings);
  const int64_t id = next_request_++;
  Request added{.result = {.request = id}, .open = request.n};
  for (int64_t i = 0; i < request.n; ++i) {
    scheduler_.add(
        {.id = next_sequence_,
         .prompt = request.prompt,
         .max_length = std::ssize(request.prompt) + std::max<int64_t>(request.max_new_tokens, 1),
         .wants_prompt_logits = request.prompt_logprobs && i == 0,
         .shares_prompt_of = i == 0 ? std::nullopt : std::optional(added.sequences.front())});
    added.sequences.push_back(next_sequence_);
    samples_.emplace(next_sequence_, Sample{id, i, stops});
    ++next_sequence_;
  }
  added.result.completions.resize(request.n);
  if (request.echo && options_.tokenizer != nullptr) {
    for (Completion& completion : added.result.completions)
      completion.text = options_.tokenizer->decode(request.prompt);
  }
  added.request = std::move(request);
  requests_.emplace(id, std::move(added));
  return id;
}

template <typename Function>
void InferenceEngine::for_open_sequences(int64_t request, Function&& function) {
  const auto found = requests_.find(request);
  if (found == requests_.end()) return;
  const std::vector<int64_t> sequences = found->second.sequences;
  for (const int64_t sequence : sequences) {
    if (samples_.contains(sequence)) function(sequence);
  }
}

void InferenceEngine::cancel(int64_t request) {
  for_open_sequences(request, [&](int64_t sequence) {
    scheduler_.cancel(sequence);
    finish(sequence, FinishReason::cancelled);
  });
}

void InferenceEngine::pause(int64_t request) {
  for_open_sequences(request, [&](int64_t sequence) { scheduler_.pause(sequence); });
}

void InferenceEngine::resume(int64_t request) {
  for_open_sequences(request, [&](int64_t sequence) { scheduler_.resume(sequence); });
}

void InferenceEngine::evict(int64_t request) {
  for_open_sequences(request, [&](int64_t sequence) { scheduler_.evict(sequence); });
}

void InferenceEngine::finish(int64_t sequence, FinishReason reason, const std::string& error) {
  Sample& sample = samples_.at(sequence);
  Request& request = requests_.at(sample.request);
  Completion& completion = request.result.completions[sample.index];
  completion.text += sample.stops.flush();
  completion.finish_reason = reason;
  completion.error = error;
  samples_.erase(sequence);
  if (--request.open > 0) return;
  results_.push_back(std::move(request.result));
  requests_.erase(results_.back().request);
}

// Row i of the logits [count, v] follows the prompt's token position + i.
void InferenceEngine::record_prompt_logprobs(const ScheduledRow& row, const at::Tensor& logits) {
  Request& request = requests_.at(samples_.at(row.sequence).request);
  const std::vector<int64_t>& prompt = request.request.prompt;
  std::vector<TokenLogprob>& recorded = request.result.prompt_logprobs;
  for (int64_t i = 0; i < row.count; ++i) {
    const int64_t next = row.position + i + 1;
    if (next >= std::ssize(prompt)) return;
    if (next != std::ssize(recorded) + 1) continue;  // recorded before an eviction
    recorded.push_back(
        token_logprob(logits[i], *config_.vocab_size, prompt[next], request.request.top_logprobs));
  }
}

bool InferenceEngine::sample_next(int64_t sequence, const at::Tensor& logits,
                                  std::vector<Event>& events) {
  Sample& sample = samples_.at(sequence);
  Request& request = requests_.at(sample.request);
  const InferenceRequest& asked = request.request;
  Completion& completion = request.result.completions[sample.index];
  const int64_t token =
      sample_token(logits, *config_.vocab_size, asked.sampling,
                   {.row = sample.index,
                    .position = std::ssize(asked.prompt) + std::ssize(completion.tokens),
                    .prompt = asked.prompt,
                    .output = completion.tokens,
                    .known_ids = options_.known_ids});
  completion.tokens.push_back(token);
  if (asked.logprobs) {
    completion.logprobs.push_back(
        token_logprob(logits, *config_.vocab_size, token, asked.top_logprobs));
  }
  Event event{sample.request, sample.index, token, ""};
  const bool is_stop_id = std::ranges::find(asked.stop_ids, token) != asked.stop_ids.end();
  bool meets_stop_string = false;
  if (options_.tokenizer != nullptr && !is_stop_id) {
    StopStrings::Fed fed = sample.stops.feed(options_.tokenizer->token_bytes(token));
    event.text = std::move(fed.text);
    meets_stop_string = fed.stopped;
  }
  const bool is_stopped = is_stop_id || meets_stop_string;
  const bool ends = is_stopped || std::ssize(completion.tokens) == asked.max_new_tokens;
  if (ends) {
    event.text += sample.stops.flush();  // nothing after a stop string
    ended_.push_back({sequence, is_stopped ? FinishReason::stop : FinishReason::length, ""});
  }
  completion.text += event.text;
  events.push_back(std::move(event));
  return ends;
}

// A draft holds if it is the token that is sampled: the output is that without drafts. Sampling a
// token x of probability p(x) accepts the draft x with that probability, as rejection sampling does
// for a draft that is certain.
NextTokens InferenceEngine::sample_row(const ScheduledRow& row, std::span<const int64_t> drafts,
                                       const at::Tensor& logits, std::vector<Event>& events) {
  NextTokens result;
  const Sample& sample = samples_.at(row.sequence);
  const Request& request = requests_.at(sample.request);
  if (request.request.max_new_tokens == 0) {  // only the prompt's log-probabilities
    ended_.push_back({row.sequence, FinishReason::length, ""});
    return {.tokens = {0}, .ends = true};
  }
  const std::vector<int64_t>& tokens = request.result.completions[sample.index].tokens;
  const int64_t first = logits.size(0) - 1 - row.drafts;
  try {
    for (int64_t i = 0; i <= row.drafts; ++i) {
      result.ends = sample_next(row.sequence, logits[first + i], events);
      result.tokens.push_back(tokens.back());
      if (result.ends || (i < row.drafts && tokens.back() != drafts[i])) break;
    }
  } catch (const Error& error) {
    ended_.push_back({row.sequence, FinishReason::error, error.what()});
    if (result.tokens.empty()) result.tokens.push_back(0);
    result.ends = true;
  }
  return result;
}

void InferenceEngine::step() {
  const std::vector<ScheduledRow> rows = scheduler_.next_step();
  if (rows.empty()) return;
  std::vector<StepRow> step_rows;
  for (const ScheduledRow& row : rows) step_rows.push_back(scheduler_.step_row(row));
  const at::Tensor logits = runner_.forward(step_rows).to(at::kCPU);

  std::vector<NextTokens> next_tokens;
  std::vector<Event> events;
  int64_t first = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const ScheduledRow& row = rows[i];
    const int64_t count = row.logits == RowLogits::none  ? 0
                          : row.logits == RowLogits::all ? row.count
                                                         : 1;
    const at::Tensor of_row = logits.narrow(0, first, count);
    first += count;
    if (row.logits == RowLogits::all) record_prompt_logprobs(row, of_row);
    if (row.samples) {
      next_tokens.push_back(sample_row(row, step_rows[i].tokens.last(row.drafts), of_row, events));
    }
  }
  scheduler_.complete(rows, next_tokens);
  for (const Ended& end : ended_) finish(end.sequence, end.reason, end.error);
  ended_.clear();
  if (!on_token_) return;
  for (const Event& event : events) on_token_(event.request, event.sample, event.token, event.text);
}

std::vector<InferenceResult> InferenceEngine::take_results() {
  return std::exchange(results_, {});
}

std::vector<InferenceResult> InferenceEngine::run() {
  while (has_work()) step();
  return take_results();
}

}  // namespace megatron
