#include "megatron/tokenizers/gguf_tokenizer.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/formats/gguf_file.h"
#include "megatron/tokenizers/gguf_pre_tokenizers.h"
#include "megatron/tokenizers/models/word_model.h"
#include "megatron/tokenizers/post_processor.h"
#include "megatron/tokenizers/sentencepiece_model.h"
#include "megatron/tokenizers/sentencepiece_tokenizer.h"
#include "megatron/tokenizers/text/utf8.h"
#include "megatron/tokenizers/tokenizer_json.h"

namespace megatron {
namespace {

using PieceType = SentencePieceModel::PieceType;

constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTypes = "tokenizer.ggml.token_type";
constexpr const char* kScores = "tokenizer.ggml.scores";
constexpr const char* kMerges = "tokenizer.ggml.merges";

// Tokens, checked: at least one, valid UTF-8, at most as many as ids can be.
const std::vector<std::string>& tokens_of(const GgufMetadata& metadata) {
  const auto& tokens = metadata.texts(kTokens);
  check(!tokens.empty() && tokens.size() <= static_cast<size_t>(kLargestTokenId),
        "Expected from 1 to {} tokens in {}, but got {}", kLargestTokenId, metadata.source(),
        tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id) {
    check(valid_utf8_prefix(tokens[id]) == tokens[id].size(),
          "Expected tokens in UTF-8 in {}, but token {} is not", metadata.source(), id);
  }
  return tokens;
}

// A type per token; all are normal without the key.
std::vector<int64_t> types_of(const GgufMetadata& metadata, size_t tokens) {
  if (!metadata.contains(kTypes)) return std::vector<int64_t>(tokens, PieceType::kNormal);
  auto types = metadata.integers(kTypes);
  check(types.size() == tokens, "Expected a token_type for each of {} tokens in {}, but got {}",
        tokens, metadata.source(), types.size());
  for (const int64_t type : types) {
    check(type >= PieceType::kNormal && type <= PieceType::kByte,
          "Expected token types from 1 to 6 in {}, but got {}", metadata.source(), type);
  }
  return types;
}

// The token of an id such as bos; none without the key.
std::optional<int64_t> special_id(const GgufMetadata& metadata, const std::string& name,
                                  size_t tokens) {
  const std::string key = "tokenizer.ggml." + name + "_token_id";
  if (!metadata.contains(key)) return std::nullopt;
  const int64_t id = metadata.integer(key);
  // Some writers store all ones for none.
  if (id == -1 || id == int64_t{UINT32_MAX}) return std::nullopt;
  check(id >= 0 && static_cast<size_t>(id) < tokens,
        "Expected {} of {} to be below the {} tokens, but got {}", key, metadata.source(), tokens,
        id);
  return id;
}

bool adds_token(const GgufMetadata& metadata, const char* name, bool otherwise) {
  return metadata.boolean(std::string("tokenizer.ggml.add_") + name + "_token", otherwise);
}

nlohmann::json merges_of(const GgufMetadata& metadata) {
  nlohmann::json merges = nlohmann::json::array();
  for (const std::string& merge : metadata.texts(kMerges)) {
    const size_t space = merge.find(' ', 1);
    check(space != std::string::npos && valid_utf8_prefix(merge) == merge.size(),
          "Expected merges of two tokens in {}, but merge {} is not", metadata.source(),
          merges.size());
    merges.push_back({merge.substr(0, space), merge.substr(space + 1)});
  }
  return merges;
}

nlohmann::json special_token_json(const std::string& token, int64_t id) {
  return {{"id", token}, {"ids", {id}}, {"tokens", {token}}};
}

// [bos] text [eos], as far as the file asks for them.
nlohmann::json post_processor_json(const GgufMetadata& metadata,
                                   const std::vector<std::string>& tokens, bool adds_bos) {
  const auto bos = special_id(metadata, "bos", tokens.size());
  const auto eos = special_id(metadata, "eos", tokens.size());
  nlohmann::json single = nlohmann::json::array();
  nlohmann::json specials = nlohmann::json::object();
  const auto add = [&](int64_t id) {
    const std::string& token = tokens[static_cast<size_t>(id)];
    single.push_back({{"SpecialToken", {{"id", token}, {"type_id", 0}}}});
    specials[token] = special_token_json(token, id);
  };
  if (bos && adds_token(metadata, "bos", adds_bos)) add(*bos);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  if (eos && adds_token(metadata, "eos", false)) add(*eos);
  nlohmann::json pair = single;
  for (const nlohmann::json& piece : single) {
    nlohmann::json second = piece;
    (second.contains("Sequence") ? second["Sequence"] : second["SpecialToken"])["type_id"] = 1;
    if (second.contains("Sequence")) second["Sequence"]["id"] = "B";
    pair.push_back(second);
  }
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", specials}};
}

// The content of a tokenizer.json.
nlohmann::json byte_level_json(const GgufMetadata& metadata) {
  const auto& tokens = tokens_of(metadata);
  const auto types = types_of(metadata, tokens.size());
  const auto& pre =
      gguf_pre_tokenizer(metadata.text("tokenizer.ggml.pre", "(none)"), metadata.source());
  nlohmann::json vocabulary = nlohmann::json::object();
  nlohmann::json added = nlohmann::json::array();
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (types[id] == PieceType::kUnused) continue;  // fills up the model's vocabulary
    if (types[id] == PieceType::kControl || types[id] == PieceType::kUserDefined) {
      added.push_back({{"id", id},
                       {"content", tokens[id]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", types[id] == PieceType::kControl}});
      // Merges may lead to such a token.
      if (vocabulary.contains(tokens[id])) continue;
    }
    vocabulary[tokens[id]] = id;
  }
  const bool prefix_space = metadata.boolean("tokenizer.ggml.add_space_prefix", false);
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", normalizer_json(pre)},
          {"pre_tokenizer", pre_tokenizer_json(pre, prefix_space)},
          {"post_processor", post_processor_json(metadata, tokens, pre.adds_bos)},
          {"decoder",
           {{"type", "ByteLevel"},
            {"add_prefix_space", prefix_space},
            {"trim_offsets", true},
            {"use_regex", true}}},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", pre.ignore_merges},
            {"vocab", vocabulary},
            {"merges", merges_of(metadata)}}}};
}

SentencePieceModel sentencepiece_of_gguf(const GgufMetadata& metadata) {
  const auto& tokens = tokens_of(metadata);
  const auto types = types_of(metadata, tokens.size());
  const auto scores = metadata.reals(kScores);
  check(scores.size() == tokens.size(), "Expected a score for each of {} tokens in {}, but got {}",
        tokens.size(), metadata.source(), scores.size());
  SentencePieceModel model{.type = SentencePieceModel::kBpe};
  for (size_t id = 0; id < tokens.size(); ++id) {
    model.pieces.push_back({.text = tokens[id],
                            .score = static_cast<float>(scores[id]),
                            .type = static_cast<uint32_t>(types[id])});
  }
  const auto piece_of = [&](const char* name) {
    const auto id = special_id(metadata, name, tokens.size());
    return id ? tokens[static_cast<size_t>(*id)] : std::string();
  };
  // A name that is no piece stands for none.
  model.bos_piece = piece_of("bos");
  model.eos_piece = piece_of("eos");
  model.pad_piece = piece_of("padding");
  model.add_dummy_prefix = metadata.boolean("tokenizer.ggml.add_space_prefix", true);
  model.remove_extra_whitespaces =
      metadata.boolean("tokenizer.ggml.remove_extra_whitespaces", false);
  return model;
}

enum class GgufTokenizerKind { none, byte_level, sentencepiece };

GgufTokenizerKind kind_of(const GgufMetadata& metadata) {
  const std::string model = metadata.text("tokenizer.ggml.model", "none");
  if (model == "none") return GgufTokenizerKind::none;
  if (model == "gpt2") return GgufTokenizerKind::byte_level;
  check(model == "llama",
        "Expected tokenizer.ggml.model of {} to be gpt2 (byte-level BPE) or llama (SentencePiece), "
        "but got '{}'",
        metadata.source(), model);
  return GgufTokenizerKind::sentencepiece;
}

std::string text_of_special(const GgufMetadata& metadata, const char* name) {
  const auto& tokens = metadata.texts(kTokens);
  const auto id = special_id(metadata, name, tokens.size());
  return id ? tokens[static_cast<size_t>(*id)] : "";
}

nlohmann::json tokenizer_config_json(const GgufMetadata& metadata, bool sentencepiece) {
  nlohmann::json config;
  // Classes that transformers makes from the two files.
  config["tokenizer_class"] = sentencepiece ? "LlamaTokenizer" : "PreTrainedTokenizerFast";
  const std::pair<const char*, const char*> names[] = {{"bos_token", "bos"},
                                                       {"eos_token", "eos"},
                                                       {"unk_token", "unknown"},
                                                       {"pad_token", "padding"}};
  for (const auto& [key, name] : names) {
    const std::string text = text_of_special(metadata, name);
    if (!text.empty()) config[key] = text;
  }
  const std::string pre = metadata.text("tokenizer.ggml.pre", "");
  const bool adds_bos = sentencepiece || gguf_pre_tokenizer(pre, metadata.source()).adds_bos;
  config["add_bos_token"] = adds_token(metadata, "bos", adds_bos);
  config["add_eos_token"] = adds_token(metadata, "eos", false);
  config["clean_up_tokenization_spaces"] = false;
  if (sentencepiece) {
    config["legacy"] = false;
    config["add_prefix_space"] = metadata.boolean("tokenizer.ggml.add_space_prefix", true);
  }
  const std::string chat = metadata.text("tokenizer.chat_template", "");
  if (valid_utf8_prefix(chat) == chat.size() && !chat.empty()) config["chat_template"] = chat;
  return config;
}

}  // namespace

std::unique_ptr<Tokenizer> make_gguf_tokenizer(const GgufMetadata& metadata, bool special_tokens) {
  switch (kind_of(metadata)) {
    case GgufTokenizerKind::none:
      break;
    case GgufTokenizerKind::byte_level:
      return make_tokenizer_json(byte_level_json(metadata), metadata.source(),
                                 text_of_special(metadata, "eos"),
                                 {.special_tokens = special_tokens});
    case GgufTokenizerKind::sentencepiece: {
      auto tokenizer =
          make_sentencepiece(serialize_sentencepiece_model(sentencepiece_of_gguf(metadata)),
                             metadata.source(), "HuggingFaceTokenizer");
      if (!special_tokens) return tokenizer;
      SpecialTokens tokens;
      const auto bos = sentencepiece_bos(*tokenizer);
      const auto eos = tokenizer->eod();
      if (bos && adds_token(metadata, "bos", true)) tokens.before = {*bos};
      if (eos && adds_token(metadata, "eos", false)) tokens.after = {*eos};
      return with_special_tokens(std::move(tokenizer), std::move(tokens));
    }
  }
  fail("Expected a tokenizer in {}, but it has none; give --tokenizer-model", metadata.source());
}

std::unique_ptr<Tokenizer> load_gguf_tokenizer(const std::string& path, bool special_tokens) {
  return make_gguf_tokenizer(GgufFile::open(path).metadata(), special_tokens);
}

std::map<std::string, std::string> tokenizer_files_of_gguf(const GgufMetadata& metadata) {
  const GgufTokenizerKind kind = kind_of(metadata);
  if (kind == GgufTokenizerKind::none) return {};
  const bool sentencepiece = kind == GgufTokenizerKind::sentencepiece;
  std::map<std::string, std::string> files;
  files["tokenizer_config.json"] = tokenizer_config_json(metadata, sentencepiece).dump(2) + "\n";
  if (sentencepiece) {
    files["tokenizer.model"] = serialize_sentencepiece_model(sentencepiece_of_gguf(metadata));
  } else {
    files["tokenizer.json"] = byte_level_json(metadata).dump() + "\n";
  }
  return files;
}

}  // namespace megatron
