#include "megatron/tokenizers/byte_level_steps.h"

#include "megatron/tokenizers/text/segments.h"

namespace megatron {
namespace {

// Appends the steps of a component. Returns whether all of it could be expressed; sets `ended` once
// ByteLevel is among them.
bool append_steps(const JsonNode& node, int depth, std::vector<PreTokenizerStep>& steps,
                  bool& ended) {
  check_nesting(node, depth);
  if (ended) return false;
  const std::string type = node.type();
  if (type == "Sequence") {
    for (const JsonNode& part : node["pretokenizers"].elements()) {
      if (!append_steps(part, depth + 1, steps, ended)) return false;
    }
    return true;
  }
  if (type == "Split") {
    const nlohmann::json& behavior = node["behavior"].value();
    if (behavior != "Isolated" && behavior != "Removed") return false;
    PreTokenizerStep step{.pattern = read_pattern(node["pattern"])};
    const bool invert = node.boolean("invert", false);
    if (behavior == "Removed") (invert ? step.keep_between : step.keep_matches) = false;
    steps.push_back(std::move(step));
    return true;
  }
  if (type == "Digits") {
    const bool individual = node.boolean("individual_digits", false);
    steps.push_back({.pattern = Pattern(individual ? R"(\p{N})" : R"(\p{N}+)")});
    return true;
  }
  if (type != "ByteLevel") return false;
  ended = true;
  // Without its expression the step splits nothing and only adds the prefix space.
  const bool use_regex = node.boolean("use_regex", true);
  const bool prefix = node.boolean("add_prefix_space", true);
  if (use_regex || prefix) {
    steps.push_back(
        {.pattern = Pattern(use_regex ? kGpt2Words : kEverything), .add_prefix_space = prefix});
  }
  return true;
}

}  // namespace

std::optional<std::vector<PreTokenizerStep>> byte_level_steps(const JsonNode& pre_tokenizer) {
  std::vector<PreTokenizerStep> steps;
  bool ended = false;
  if (!append_steps(pre_tokenizer, 0, steps, ended) || !ended) return std::nullopt;
  return steps;
}

}  // namespace megatron
