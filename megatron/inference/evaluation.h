// Perplexity of a text and accuracy of choices, from the log-probabilities of prompts.
#pragma once

#include <string>
#include <vector>

#include "megatron/inference/run_requests.h"

namespace megatron {

struct TextScore {
  int64_t tokens = 0;  // predicted: all but the first
  int64_t bytes = 0;   // of their text
  double nats = 0.0;   // negative log-likelihood
  double perplexity() const;
  double bits_per_byte() const;
};

// Scores `ids` in parts of `window` tokens. A part begins with the last token of the one before, so
// that every token but the first is predicted once, from those before it in its part. Collective as
// run_requests; every rank of `world` gets the score. Throws Error for less than two tokens.
TextScore score_text(const GPTModelChunks& chunks, const std::vector<int64_t>& ids, int64_t window,
                     const RunRequestsOptions& options, const ProcessGroup& world);

struct ChoiceQuestion {
  std::string prompt;
  std::vector<std::string> choices;  // each continues the prompt
  int64_t answer = 0;                // the right one
};

// Reads {"prompt": "...", "choices": ["...", ...], "answer": 0} a line. Throws Error that names the
// line and the key.
std::vector<ChoiceQuestion> read_choice_questions(const std::string& path);

struct ChoiceScore {
  int64_t questions = 0;
  int64_t right = 0;           // by the log-probability of the choice
  int64_t right_per_byte = 0;  // by that over the bytes of the choice
};

// Collective as run_requests; every rank of `world` gets the score. Throws Error where a question
// does not fit the model.
ChoiceScore score_choices(const GPTModelChunks& chunks,
                          const std::vector<ChoiceQuestion>& questions,
                          const RunRequestsOptions& options, const ProcessGroup& world);

}  // namespace megatron
