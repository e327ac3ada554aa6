// megatron evaluate: perplexity of a text and accuracy of choices, as one JSON object.
#include <algorithm>
#include <iostream>

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/formats/file_io.h"
#include "megatron/inference/evaluation.h"

#include "cli/command.h"
#include "cli/inference_model.h"

namespace megatron {
namespace {

// As many tokens as the flag says, else as the model has positions, up to this number.
constexpr int64_t kMostTokensOfAPart = 2048;

int64_t window_of(const Options& options) {
  const int64_t given = options.evaluation.text_window;
  const int64_t positions = options.model.max_sequence_length();
  check(given <= positions ||
            options.model.position_embedding_type != PositionEmbeddingType::learned_absolute,
        "Expected --text-window of at most the model's {} positions, but got {}; {} works",
        positions, given, positions);
  return given > 0 ? given : std::min(positions, kMostTokensOfAPart);
}

nlohmann::json evaluate_text(const InferenceModel& model) {
  const EvaluationConfig& evaluation = model.options.evaluation;
  const std::vector<int64_t> ids = model.tokenizer->encode(read_text_file(evaluation.text_file));
  const TextScore score =
      score_text(model.chunks, ids, window_of(model.options),
                 engine_options(model.options.generation, *model.tokenizer), *model.groups.world);
  return {{"file", evaluation.text_file},
          {"window", window_of(model.options)},
          {"tokens", score.tokens},
          {"bytes", score.bytes},
          {"loss", score.nats / static_cast<double>(score.tokens)},
          {"perplexity", score.perplexity()},
          {"bits_per_byte", score.bits_per_byte()}};
}

nlohmann::json evaluate_choices(const InferenceModel& model) {
  const EvaluationConfig& evaluation = model.options.evaluation;
  const ChoiceScore score = score_choices(
      model.chunks, read_choice_questions(evaluation.choices_file),
      engine_options(model.options.generation, *model.tokenizer), *model.groups.world);
  const auto questions = static_cast<double>(score.questions);
  return {{"file", evaluation.choices_file},
          {"questions", score.questions},
          {"accuracy", static_cast<double>(score.right) / questions},
          {"accuracy_per_byte", static_cast<double>(score.right_per_byte) / questions}};
}

}  // namespace

int run_evaluate(const ParsedCommand& command) {
  return run_with_model(command, Command::evaluate,
                        [](const InferenceModel& model, const RankContext& rank) {
                          nlohmann::json result = nlohmann::json::object();
                          if (!model.options.evaluation.text_file.empty())
                            result["text"] = evaluate_text(model);
                          if (!model.options.evaluation.choices_file.empty())
                            result["choices"] = evaluate_choices(model);
                          if (rank.rank == 0) std::cout << result.dump(2) << std::endl;
                        });
}

}  // namespace megatron
