#include "megatron/tokenizers/gguf_pre_tokenizers.h"

#include <algorithm>
#include <optional>

#include "megatron/base/error.h"
#include "megatron/tokenizers/text/known_patterns.h"

namespace megatron {
namespace {

constexpr const char* kOneNumber = R"(\p{N})";
// Mistral's Tekken.
constexpr const char* kTekkenWords =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
    R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Adds the expressions of a pre_tokenizer in order. False for one that GGUF has no name for.
bool append_expressions(const nlohmann::json& node, std::vector<std::string>& expressions) {
  if (!node.is_object()) return false;
  const std::string type = node.value("type", "");
  if (type == "Sequence") {
    const auto parts = node.find("pretokenizers");
    if (parts == node.end() || !parts->is_array()) return false;
    return std::all_of(parts->begin(), parts->end(),
                       [&](const auto& part) { return append_expressions(part, expressions); });
  }
  if (type == "Digits") {
    if (!node.value("individual_digits", false)) return false;
    expressions.emplace_back(kOneNumber);
    return true;
  }
  if (type == "ByteLevel") {
    if (node.value("use_regex", true)) expressions.emplace_back(kGpt2Words);
    return true;
  }
  if (type != "Split" || node.value("invert", false)) return false;
  const std::string behavior = node.value("behavior", "");
  const auto pattern = node.find("pattern");
  if (pattern == node.end() || !pattern->is_object() || !pattern->contains("Regex")) return false;
  // What an expression that matches everything removes between its matches is nothing.
  if (behavior != "Isolated" && behavior != "Removed") return false;
  expressions.push_back((*pattern)["Regex"].get<std::string>());
  return true;
}

bool is_nfc(const nlohmann::json& normalizer) {
  return normalizer.is_object() && normalizer.value("type", "") == "NFC";
}

std::string known_names() {
  std::string names;
  for (const GgufPreTokenizer& entry : gguf_pre_tokenizers()) {
    for (const char* name : entry.names) {
      if (!names.empty()) names += ", ";
      names += name;
    }
  }
  return names;
}

}  // namespace

const std::vector<GgufPreTokenizer>& gguf_pre_tokenizers() {
  static const std::vector<GgufPreTokenizer> entries = {
      {.names = {"gpt-2", "phi-2", "olmo", "mpt", "jais", "roberta-bpe"},
       .expressions = {kGpt2Words}},
      {.names = {"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"},
       .expressions = {kLlama3Words},
       .ignore_merges = true,
       .adds_bos = true},
      {.names = {"smaug-bpe", "dbrx", "glm4", "chatglm-bpe"}, .expressions = {kLlama3Words}},
      {.names = {"qwen2", "deepseek-r1-qwen", "megrez"},
       .expressions = {kQwen2Words},
       .normalizes = true},
      {.names = {"stablelm2", "hunyuan"}, .expressions = {kQwen2Words}},
      {.names = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"},
       .expressions = {kOneNumber, kGpt2Words}},
      {.names = {"tekken"}, .expressions = {kTekkenWords}, .ignore_merges = true, .adds_bos = true},
      {.names = {"gpt-4o", "llama4"}, .expressions = {kO200kWords}},
  };
  return entries;
}

const GgufPreTokenizer& gguf_pre_tokenizer(std::string_view name, const std::string& source) {
  for (const GgufPreTokenizer& entry : gguf_pre_tokenizers()) {
    for (const char* known : entry.names) {
      if (name == known) return entry;
    }
  }
  fail("Expected tokenizer.ggml.pre of {} to be a known one ({}), but got '{}'", source,
       known_names(), name);
}

nlohmann::json pre_tokenizer_json(const GgufPreTokenizer& entry, bool add_prefix_space) {
  nlohmann::json steps = nlohmann::json::array();
  bool words = false;  // ByteLevel splits words itself
  for (const char* expression : entry.expressions) {
    words = std::string_view(expression) == kGpt2Words;
    if (words) break;
    if (std::string_view(expression) == kOneNumber) {
      steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
    } else {
      steps.push_back({{"type", "Split"},
                       {"pattern", {{"Regex", expression}}},
                       {"behavior", "Isolated"},
                       {"invert", false}});
    }
  }
  const nlohmann::json byte_level = {{"type", "ByteLevel"},
                                     {"add_prefix_space", add_prefix_space},
                                     {"trim_offsets", true},
                                     {"use_regex", words}};
  if (steps.empty()) return byte_level;
  steps.push_back(byte_level);
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

nlohmann::json normalizer_json(const GgufPreTokenizer& entry) {
  if (!entry.normalizes) return nullptr;
  return {{"type", "NFC"}};
}

const GgufPreTokenizer& gguf_pre_tokenizer_of(const nlohmann::json& tokenizer,
                                              const std::string& source) {
  std::vector<std::string> expressions;
  const bool known =
      append_expressions(tokenizer.value("pre_tokenizer", nlohmann::json()), expressions);
  const nlohmann::json normalizer = tokenizer.value("normalizer", nlohmann::json());
  const bool ignore_merges = tokenizer["model"].value("ignore_merges", false);
  const GgufPreTokenizer* found = nullptr;
  for (const GgufPreTokenizer& entry : gguf_pre_tokenizers()) {
    if (known && found == nullptr && entry.ignore_merges == ignore_merges &&
        (entry.normalizes ? is_nfc(normalizer) : normalizer.is_null()) &&
        std::equal(expressions.begin(), expressions.end(), entry.expressions.begin(),
                   entry.expressions.end())) {
      found = &entry;
    }
  }
  check(found != nullptr,
        "Expected the tokenizer of {} to split text as one that GGUF has a name for ({}), but its "
        "normalizer, pre_tokenizer and ignore_merges are those of none of them",
        source, known_names());
  return *found;
}

}  // namespace megatron
