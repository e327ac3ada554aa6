#include "megatron/tokenizers/tokenizer_json.h"

#include <filesystem>
#include <unordered_map>

#include "megatron/base/error.h"
#include "megatron/formats/json_file.h"
#include "megatron/tokenizers/bpe_tokenizer.h"
#include "megatron/tokenizers/byte_level_steps.h"
#include "megatron/tokenizers/models/merge_list.h"
#include "megatron/tokenizers/pipeline_tokenizer.h"
#include "megatron/tokenizers/post_processor.h"
#include "megatron/tokenizers/text/json_node.h"

namespace megatron {
namespace {

struct AddedTokens {
  std::vector<AddedToken> plain;
  std::vector<AddedToken> normalized;
};

// Throws Error for contents and ids that contradict each other or the vocabulary.
AddedTokens read_added_tokens(const JsonNode& list, const Vocabulary& vocabulary) {
  AddedTokens result;
  if (list.is_null()) return result;
  std::unordered_map<int64_t, std::string> by_id;
  StringMap<int64_t> by_content;
  for (const JsonNode& entry : list.elements()) {
    const nlohmann::json& id = entry["id"].value();
    if (!entry["content"].value().is_string() || !id.is_number_integer() || id < 0 ||
        id > kLargestTokenId) {
      entry.refuse("a token with content and id");
    }
    const AddedToken token{.content = entry.text("content"),
                           .id = id.get<int32_t>(),
                           .left_strip = entry.boolean("lstrip", false),
                           .right_strip = entry.boolean("rstrip", false),
                           .single_word = entry.boolean("single_word", false)};
    const bool special = entry.boolean("special", false);
    const bool normalized = entry.boolean("normalized", !special);
    const auto other_content = by_id.emplace(token.id, token.content).first->second;
    check(other_content == token.content,
          "Expected one added token per id in {}, but '{}' and '{}' both have {}", list.file(),
          other_content, token.content, token.id);
    const auto in_vocabulary = vocabulary.find(token.content);
    const int64_t other_id = in_vocabulary != vocabulary.end()
                                 ? in_vocabulary->second
                                 : by_content.emplace(token.content, token.id).first->second;
    check(other_id == token.id, "Expected one id per token in {}, but '{}' has {} and {}",
          list.file(), token.content, other_id, token.id);
    (normalized ? result.normalized : result.plain).push_back(token);
  }
  return result;
}

std::optional<int64_t> find_eod(const std::string& eos_token, const AddedTokens& added,
                                const Vocabulary& vocabulary) {
  const std::string names[] = {eos_token, "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"};
  for (const auto& name : names) {
    if (name.empty()) continue;
    for (const auto* tokens : {&added.plain, &added.normalized}) {
      for (const auto& token : *tokens) {
        if (token.content == name) return token.id;
      }
    }
    const auto found = vocabulary.find(name);
    if (found != vocabulary.end()) return found->second;
  }
  return std::nullopt;
}

// Whether BytePairEncoding, which works on bytes, covers the model and decoder.
bool is_plain_byte_level(const JsonNode& root) {
  const JsonNode model = root["model"];
  if (model_type(model) != "BPE" || model.boolean("byte_fallback", false)) return false;
  if (!model.text("continuing_subword_prefix", "").empty()) return false;
  if (!model.text("end_of_word_suffix", "").empty()) return false;
  return root["decoder"].is_null() || root["decoder"].type() == "ByteLevel";
}

std::unique_ptr<Tokenizer> load_byte_level(const JsonNode& root, const std::string& eos_token,
                                           std::vector<PreTokenizerStep> steps) {
  BpeTokenizerParts parts;
  parts.kind = "HuggingFaceTokenizer";
  parts.path = root.file();
  parts.normalizer = make_normalizer(root["normalizer"]);
  parts.steps = std::move(steps);
  const JsonNode model = root["model"];
  model["dropout"].require_absent();
  parts.bpe.fuse_unknown = model.boolean("fuse_unk", false);
  parts.bpe.ignore_merges = model.boolean("ignore_merges", false);
  parts.vocabulary = read_vocabulary(model["vocab"]);
  if (!model["unk_token"].is_null()) {
    parts.bpe.unknown = id_of_token(model["unk_token"], parts.vocabulary);
  }
  parts.merges = read_merges(model["merges"]);
  AddedTokens added = read_added_tokens(root["added_tokens"], parts.vocabulary);
  parts.eod = find_eod(eos_token, added, parts.vocabulary);
  parts.added = std::move(added.plain);
  parts.added_normalized = std::move(added.normalized);
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

std::unique_ptr<Tokenizer> load_pipeline(const JsonNode& root, const std::string& eos_token) {
  PipelineTokenizerParts parts;
  parts.kind = "HuggingFaceTokenizer";
  parts.path = root.file();
  parts.normalizer = make_normalizer(root["normalizer"]);
  parts.pre_tokenizer = make_pre_tokenizer(root["pre_tokenizer"]);
  parts.decoder = make_decoder(root["decoder"]);
  LoadedModel model = load_word_model(root["model"]);
  parts.model = std::move(model.model);
  parts.vocabulary = std::move(model.vocabulary);
  AddedTokens added = read_added_tokens(root["added_tokens"], parts.vocabulary);
  parts.eod = find_eod(eos_token, added, parts.vocabulary);
  parts.added = std::move(added.plain);
  parts.added_normalized = std::move(added.normalized);
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

nlohmann::json read_tokenizer_config(const std::string& file) {
  const std::filesystem::path path =
      std::filesystem::path(file).parent_path() / "tokenizer_config.json";
  if (!std::filesystem::exists(path)) return nullptr;
  return read_json_file(path.string(), "a tokenizer_config.json");
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer_json(const std::string& path,
                                               TokenizerJsonOptions options) {
  return make_tokenizer_json(read_json_file(path, "a tokenizer.json"), path,
                             text_of_tokenizer_config(path, "eos_token"), options);
}

std::unique_ptr<Tokenizer> make_tokenizer_json(const nlohmann::json& content,
                                               const std::string& source,
                                               const std::string& eos_token,
                                               TokenizerJsonOptions options) {
  check(content.is_object() && content.contains("model"),
        "Expected a tokenizer.json with a model, but {} has none: it is not a tokenizer file",
        source);
  const JsonNode root(content, source);
  if (root.text("version", "1.0") != "1.0") root["version"].refuse("1.0");
  std::optional<std::vector<PreTokenizerStep>> steps;
  if (options.fast_path && is_plain_byte_level(root)) {
    steps = byte_level_steps(root["pre_tokenizer"]);
  }
  auto tokenizer =
      steps ? load_byte_level(root, eos_token, std::move(*steps)) : load_pipeline(root, eos_token);
  if (!options.special_tokens) return tokenizer;
  return with_special_tokens(std::move(tokenizer), read_post_processor(root["post_processor"]));
}

std::string text_of_tokenizer_config(const std::string& file, const char* key) {
  const nlohmann::json config = read_tokenizer_config(file);
  const JsonNode value = JsonNode(config, file)[key];
  if (value.value().is_string()) return value.value().get<std::string>();
  const nlohmann::json& content = value["content"].value();
  return content.is_string() ? content.get<std::string>() : "";
}

bool flag_of_tokenizer_config(const std::string& file, const char* key, bool otherwise) {
  const nlohmann::json config = read_tokenizer_config(file);
  const nlohmann::json& value = JsonNode(config, file)[key].value();
  return value.is_boolean() ? value.get<bool>() : otherwise;
}

}  // namespace megatron
