#include "megatron/convert/model_options.h"

#include <algorithm>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "megatron/base/usage_error.h"
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

// Of the model, but not of its architecture.
bool is_adopted(const Option& option) {
  static const std::set<std::string> kFields = {"hidden_dropout", "attention_dropout",
                                                "init_method_std", "make_vocab_size_divisible_by",
                                                "should_pad_vocab"};
  return option.architecture || kFields.contains(option.name());
}

// Other positions than learned ones have no maximum.
bool has_no_meaning(const Option& option, const GPTModelConfig& model) {
  return option.name() == "max_position_embeddings" &&
         model.position_embedding_type != PositionEmbeddingType::learned_absolute;
}

}  // namespace

void adopt_model(Options& options, const GPTModelConfig& model, const std::set<std::string>& given,
                 const std::string& path) {
  Options source;
  source.model = model;
  std::vector<std::string> contradictions;
  for (const Option& option : option_table().options()) {
    if (option.is_shorthand() || !is_adopted(option)) continue;
    const FieldValue ours = option.value(options), theirs = option.value(source);
    if (to_json(ours) == to_json(theirs)) continue;
    const bool is_given = given.contains(option.name());
    if (is_given && (!option.architecture || has_no_meaning(option, model) ||
                     (option.extends_context && options.checkpoint.finetune)))
      continue;
    if (is_given) {
      contradictions.push_back(
          fmt::format("{} {} instead of {}", option.display(), to_text(ours), to_text(theirs)));
    } else {
      set_from_json(ours, to_json(theirs), option.name());
    }
  }
  if (!contradictions.empty()) {
    throw UsageError(fmt::format(
        "Expected the model of {}, but got {}; leave out what the model "
        "decides{}",
        path, fmt::join(contradictions, ", "),
        options.checkpoint.finetune ? "" : " (--finetune accepts other context options)"));
  }
  if (!given.contains("seq_length")) {
    options.model.seq_length = std::min(options.model.seq_length, model.max_sequence_length());
  }
  // A model that trains on longer sequences is one of that length. Dynamic scaling begins at the
  // length that the file gives.
  GPTModelConfig& trained = options.model;
  if (!given.contains("max_position_embeddings") && !trained.rope_dynamic_scaling_factor &&
      trained.position_embedding_type != PositionEmbeddingType::learned_absolute &&
      trained.max_sequence_length() < trained.seq_length)
    trained.max_position_embeddings = trained.seq_length;
}

}  // namespace megatron
