#include "megatron/inference/evaluation.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/formats/json_file.h"

namespace megatron {
namespace {

// A request that scores the tokens of `ids` from `first` on.
struct ScoredIds {
  std::vector<int64_t> ids;
  int64_t first = 1;
};

// The sums of log-probabilities of the scored tokens, on every rank.
std::vector<double> score(const GPTModelChunks& chunks, const std::vector<ScoredIds>& scored,
                          const RunRequestsOptions& options, const ProcessGroup& world) {
  std::vector<InferenceRequest> requests;
  for (const ScoredIds& one : scored) {
    requests.push_back({.prompt = one.ids, .max_new_tokens = 0, .prompt_logprobs = true});
  }
  std::map<int64_t, std::string> own;
  for (const auto& [i, result] : run_requests(chunks, requests, options).results) {
    const std::string& error = result.completions.front().error;
    nlohmann::json line = {{"error", error}, {"sum", 0.0}};
    double sum = 0.0;
    for (int64_t j = scored[i].first; error.empty() && j < std::ssize(scored[i].ids); ++j)
      sum += result.prompt_logprobs.at(j - 1).logprob;
    line["sum"] = sum;
    own[i] = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  std::vector<double> sums(scored.size());
  for (const auto& [i, text] : gather_by_request(own, world)) {
    const auto line = nlohmann::json::parse(text);
    check(line["error"].get<std::string>().empty(), "{}", line["error"].get<std::string>());
    sums[i] = line["sum"].get<double>();
  }
  return sums;
}

ChoiceQuestion question_of(const nlohmann::json& line) {
  check(line.is_object(), "Expected a JSON object, but got {}", line.dump());
  for (const auto& [key, value] : line.items()) {
    check(key == "prompt" || key == "choices" || key == "answer",
          "Expected prompt, choices and answer, but got '{}'", key);
  }
  for (const char* key : {"prompt", "choices", "answer"})
    check(line.contains(key), "Expected '{}', but got none", key);
  check(line["prompt"].is_string(), "Expected 'prompt' as a string, but got {}",
        line["prompt"].dump());
  const auto& choices = line["choices"];
  const auto has_text = [](const nlohmann::json& choice) {
    return choice.is_string() && !choice.get_ref<const std::string&>().empty();
  };
  check(choices.is_array() && !choices.empty() &&
            std::all_of(choices.begin(), choices.end(), has_text),
        "Expected 'choices' as a list of strings that are not empty, but got {}", choices.dump());
  check(line["answer"].is_number_integer(), "Expected 'answer' as a whole number, but got {}",
        line["answer"].dump());
  ChoiceQuestion question{.prompt = line["prompt"].get<std::string>(),
                          .choices = choices.get<std::vector<std::string>>(),
                          .answer = line["answer"].get<int64_t>()};
  check(question.answer >= 0 && question.answer < std::ssize(question.choices),
        "Expected 'answer' below the number of choices {}, counted from 0, but got {}",
        question.choices.size(), question.answer);
  return question;
}

}  // namespace

double TextScore::perplexity() const {
  return std::exp(nats / static_cast<double>(tokens));
}

double TextScore::bits_per_byte() const {
  return nats / std::log(2.0) / static_cast<double>(bytes);
}

TextScore score_text(const GPTModelChunks& chunks, const std::vector<int64_t>& ids, int64_t window,
                     const RunRequestsOptions& options, const ProcessGroup& world) {
  check(ids.size() >= 2, "Expected a text of at least 2 tokens, but got {}", ids.size());
  check(window >= 2, "Expected a window of at least 2 tokens, but got {}", window);
  std::vector<ScoredIds> parts;
  for (int64_t first = 0; first + 1 < std::ssize(ids); first += window - 1) {
    const int64_t end = std::min<int64_t>(first + window, std::ssize(ids));
    parts.push_back({.ids = {ids.begin() + first, ids.begin() + end}});
  }
  TextScore result{.tokens = std::ssize(ids) - 1};
  for (const double sum : score(chunks, parts, options, world)) result.nats -= sum;
  if (options.tokenizer != nullptr) {
    const std::vector<int32_t> lengths = options.tokenizer->token_byte_lengths();
    for (size_t i = 1; i < ids.size(); ++i) result.bytes += lengths.at(ids[i]);
  }
  return result;
}

std::vector<ChoiceQuestion> read_choice_questions(const std::string& path) {
  const std::string text = read_text_file(path, "a file of questions");
  std::vector<ChoiceQuestion> questions;
  int64_t number = 0;
  for (size_t first = 0; first < text.size();) {
    const size_t end = std::min(text.find('\n', first), text.size());
    const std::string line = text.substr(first, end - first);
    first = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      questions.push_back(question_of(nlohmann::json::parse(line)));
    } catch (const std::exception& error) {
      fail("{} line {}: {}", path, number, error.what());
    }
  }
  check(!questions.empty(), "Expected questions in {}, but got an empty file", path);
  return questions;
}

ChoiceScore score_choices(const GPTModelChunks& chunks,
                          const std::vector<ChoiceQuestion>& questions,
                          const RunRequestsOptions& options, const ProcessGroup& world) {
  check(options.tokenizer != nullptr, "Expected a tokenizer for choices, but got none");
  const Tokenizer& tokenizer = *options.tokenizer;
  std::vector<ScoredIds> scored;
  for (const ChoiceQuestion& question : questions) {
    const int64_t first = std::max<int64_t>(std::ssize(tokenizer.encode(question.prompt)), 1);
    for (const std::string& choice : question.choices)
      scored.push_back({.ids = tokenizer.encode(question.prompt + choice), .first = first});
  }
  const std::vector<double> sums = score(chunks, scored, options, world);
  ChoiceScore result{.questions = std::ssize(questions)};
  auto next = sums.begin();
  for (const ChoiceQuestion& question : questions) {
    const std::vector<double> total(next, next + std::ssize(question.choices));
    next += std::ssize(question.choices);
    std::vector<double> per_byte;
    for (size_t i = 0; i < total.size(); ++i)
      per_byte.push_back(total[i] / static_cast<double>(question.choices[i].size()));
    result.right += std::ranges::max_element(total) - total.begin() == question.answer;
    result.right_per_byte +=
        std::ranges::max_element(per_byte) - per_byte.begin() == question.answer;
  }
  return result;
}

}  // namespace megatron
