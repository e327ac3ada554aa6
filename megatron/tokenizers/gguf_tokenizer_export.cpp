// Tokenizer files as the metadata of a GGUF file.
#include <charconv>
#include <set>

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/tokenizers/gguf_pre_tokenizers.h"
#include "megatron/tokenizers/gguf_tokenizer.h"
#include "megatron/tokenizers/models/merge_list.h"
#include "megatron/tokenizers/models/word_model.h"
#include "megatron/tokenizers/post_processor.h"
#include "megatron/tokenizers/sentencepiece_model.h"

namespace megatron {
namespace {

using Files = std::map<std::string, std::string>;

nlohmann::json json_of(const Files& files, const std::string& name) {
  const auto found = files.find(name);
  if (found == files.end()) return nlohmann::json::object();
  auto json = nlohmann::json::parse(found->second, nullptr, /*allow_exceptions=*/false);
  check(json.is_object(), "Expected {} to be a JSON object, but it is not", name);
  return json;
}

// Tokens by id.
struct TokenTable {
  std::vector<std::string> texts;
  std::vector<int32_t> types;

  explicit TokenTable(int64_t size) {
    for (int64_t id = 0; id < size; ++id) texts.push_back(fmt::format("[PAD{}]", id));
    types.assign(texts.size(), SentencePieceModel::kUnused);
  }
  void set(int64_t id, const std::string& text, int32_t type) {
    check(id >= 0 && static_cast<size_t>(id) < texts.size(),
          "Expected the tokenizer's ids to be below the model's vocabulary of {}, but '{}' has {}",
          texts.size(), text, id);
    texts[static_cast<size_t>(id)] = text;
    types[static_cast<size_t>(id)] = type;
  }
  std::optional<int64_t> find(const std::string& text) const {
    for (size_t id = 0; id < texts.size(); ++id) {
      if (texts[id] == text && types[id] != SentencePieceModel::kUnused) {
        return static_cast<int64_t>(id);
      }
    }
    return std::nullopt;
  }
};

// The text of a token of tokenizer_config.json, which may be an object with its content.
std::string token_text(const nlohmann::json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return "";
  const nlohmann::json text =
      found->is_object() ? found->value("content", nlohmann::json()) : *found;
  return text.is_string() ? text.get<std::string>() : "";
}

void add_special_ids(const nlohmann::json& config, const TokenTable& table,
                     const GgufSpecialIds& ids, GgufMetadata& metadata) {
  const auto add = [&](const char* key, const char* name, std::optional<int64_t> otherwise) {
    auto id = table.find(token_text(config, key));
    if (!id) id = otherwise;
    if (id)
      metadata.add(fmt::format("tokenizer.ggml.{}_token_id", name), static_cast<uint32_t>(*id));
  };
  add("bos_token", "bos", ids.bos);
  add("eos_token", "eos", ids.eos);
  add("unk_token", "unknown", std::nullopt);
  add("pad_token", "padding", ids.pad);
}

void add_chat_template(const Files& files, const nlohmann::json& config, GgufMetadata& metadata) {
  const auto file = files.find("chat_template.jinja");
  const auto inside = config.find("chat_template");
  if (file != files.end()) {
    metadata.add("tokenizer.chat_template", file->second);
  } else if (inside != config.end() && inside->is_string()) {
    metadata.add("tokenizer.chat_template", inside->get<std::string>());
  }
}

void add_table(const TokenTable& table, GgufMetadata& metadata) {
  metadata.add("tokenizer.ggml.tokens", GgufArray{table.texts});
  metadata.add("tokenizer.ggml.token_type", GgufArray{table.types});
}

// Whether a ByteLevel step puts a space in front of a text.
bool adds_prefix_space(const nlohmann::json& node) {
  if (!node.is_object()) return false;
  if (node.value("type", "") == "ByteLevel") return node.value("add_prefix_space", true);
  const auto parts = node.find("pretokenizers");
  if (parts == node.end() || !parts->is_array()) return false;
  for (const auto& part : *parts) {
    if (adds_prefix_space(part)) return true;
  }
  return false;
}

void add_byte_level(const Files& files, int64_t vocab_size, const GgufSpecialIds& ids,
                    GgufMetadata& metadata) {
  const std::string source = "tokenizer.json";
  const nlohmann::json content = json_of(files, source);
  const nlohmann::json config = json_of(files, "tokenizer_config.json");
  const JsonNode root(content, source);
  const JsonNode model = root["model"];
  check(model_type(model) == "BPE" && !model.boolean("byte_fallback", false),
        "Expected a byte-level BPE tokenizer, or a tokenizer.model beside it, for a GGUF file, but "
        "tokenizer.json holds {}{}",
        model_type(model), model.boolean("byte_fallback", false) ? " with byte_fallback" : "");
  const GgufPreTokenizer& pre = gguf_pre_tokenizer_of(content, source);
  TokenTable table(vocab_size);
  for (const auto& [text, id] : read_vocabulary(model["vocab"])) {
    table.set(id, text, SentencePieceModel::kNormal);
  }
  if (!root["added_tokens"].is_null()) {
    for (const JsonNode& token : root["added_tokens"].elements()) {
      table.set(token.integer("id", 0, kLargestTokenId), token.text("content"),
                token.boolean("special", false) ? SentencePieceModel::kControl
                                                : SentencePieceModel::kUserDefined);
    }
  }
  std::vector<std::string> merges;
  for (const auto& [left, right] : read_merges(model["merges"]))
    merges.push_back(left + " " + right);
  metadata.add("tokenizer.ggml.model", std::string("gpt2"));
  metadata.add("tokenizer.ggml.pre", std::string(pre.names.front()));
  add_table(table, metadata);
  metadata.add("tokenizer.ggml.merges", GgufArray{std::move(merges)});
  add_special_ids(config, table, ids, metadata);
  const SpecialTokens around = read_post_processor(root["post_processor"]);
  metadata.add("tokenizer.ggml.add_bos_token", !around.before.empty());
  metadata.add("tokenizer.ggml.add_eos_token", !around.after.empty());
  metadata.add("tokenizer.ggml.add_space_prefix", adds_prefix_space(content["pre_tokenizer"]));
  add_chat_template(files, config, metadata);
}

void add_sentencepiece(const Files& files, int64_t vocab_size, const GgufSpecialIds& ids,
                       GgufMetadata& metadata) {
  const auto model = parse_sentencepiece_model(files.at("tokenizer.model"), "tokenizer.model");
  const nlohmann::json config = json_of(files, "tokenizer_config.json");
  check(model.type == SentencePieceModel::kBpe && model.charsmap.empty(),
        "Expected a SentencePiece model of type BPE without a character map for a GGUF file, but "
        "got type {}{}",
        model.type, model.charsmap.empty() ? "" : " with one");
  TokenTable table(vocab_size);
  std::vector<float> scores(table.texts.size(), -10000.0f);  // as llama.cpp's unused tokens
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& piece = model.pieces[id];
    table.set(static_cast<int64_t>(id), piece.text, static_cast<int32_t>(piece.type));
    scores[id] = piece.score;
  }
  // Tokens that were added to the model's own.
  const auto added = config.find("added_tokens_decoder");
  if (added != config.end() && added->is_object()) {
    for (const auto& [text, token] : added->items()) {
      int64_t id = -1;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
      const bool is_token = error == std::errc() && end == text.data() + text.size() &&
                            token.is_object() && token.contains("content") &&
                            token["content"].is_string();
      check(is_token,
            "Expected ids with a content in added_tokens_decoder of tokenizer_config.json, but got "
            "'{}'",
            text);
      if (id < static_cast<int64_t>(model.pieces.size())) continue;
      const bool special = token.contains("special") && token["special"] == true;
      table.set(id, token["content"].get<std::string>(),
                special ? SentencePieceModel::kControl : SentencePieceModel::kUserDefined);
      scores[static_cast<size_t>(id)] = -1000.0f;
    }
  }
  metadata.add("tokenizer.ggml.model", std::string("llama"));
  metadata.add("tokenizer.ggml.pre", std::string("default"));
  add_table(table, metadata);
  metadata.add("tokenizer.ggml.scores", GgufArray{std::move(scores)});
  nlohmann::json named = config;
  const std::pair<const char*, const std::string&> pieces[] = {{"bos_token", model.bos_piece},
                                                               {"eos_token", model.eos_piece},
                                                               {"pad_token", model.pad_piece}};
  for (const auto& [key, piece] : pieces) {
    if (token_text(named, key).empty()) named[key] = piece;
  }
  for (const auto& piece : model.pieces) {
    if (piece.type == SentencePieceModel::kUnknown) named["unk_token"] = piece.text;
  }
  add_special_ids(named, table, ids, metadata);
  const auto flag = [&](const char* key, bool otherwise) {
    const auto found = config.find(key);
    return found != config.end() && found->is_boolean() ? found->get<bool>() : otherwise;
  };
  metadata.add("tokenizer.ggml.add_bos_token", flag("add_bos_token", true));
  metadata.add("tokenizer.ggml.add_eos_token", flag("add_eos_token", false));
  metadata.add("tokenizer.ggml.add_space_prefix", model.add_dummy_prefix);
  metadata.add("tokenizer.ggml.remove_extra_whitespaces", model.remove_extra_whitespaces);
  add_chat_template(files, config, metadata);
}

}  // namespace

void add_gguf_tokenizer(const Files& files, int64_t vocab_size, const GgufSpecialIds& ids,
                        GgufMetadata& metadata) {
  if (files.contains("tokenizer.model")) {
    add_sentencepiece(files, vocab_size, ids, metadata);
  } else {
    check(files.contains("tokenizer.json"),
          "Expected a tokenizer.json or tokenizer.model to write into the GGUF file, but got {}",
          files.empty() ? "no tokenizer files" : "neither");
    add_byte_level(files, vocab_size, ids, metadata);
  }
}

}  // namespace megatron
