#include <string_view>
#include <unordered_map>

#include "megatron/base/error.h"
#include "megatron/tokenizers/models/character_bpe.h"
#include "megatron/tokenizers/models/merge_list.h"
#include "megatron/tokenizers/models/unigram.h"
#include "megatron/tokenizers/models/word_piece.h"

namespace megatron {
namespace {

LoadedModel load_bpe(const JsonNode& model) {
  model["dropout"].require_absent();
  Vocabulary vocabulary = read_vocabulary(model["vocab"]);
  CharacterBpeOptions options{
      .fuse_unknown = model.boolean("fuse_unk", false),
      .byte_fallback = model.boolean("byte_fallback", false),
      .ignore_merges = model.boolean("ignore_merges", false),
      .continuing_prefix = model.text("continuing_subword_prefix", ""),
      .end_of_word_suffix = model.text("end_of_word_suffix", ""),
  };
  if (!model["unk_token"].is_null()) options.unknown = id_of_token(model["unk_token"], vocabulary);
  auto bpe = std::make_unique<CharacterBpe>(vocabulary, read_merges(model["merges"]), options,
                                            model.file());
  return {std::move(bpe), std::move(vocabulary)};
}

LoadedModel load_unigram(const JsonNode& model) {
  std::vector<std::pair<std::string, double>> pieces;
  Vocabulary vocabulary;
  const JsonNode vocab = model["vocab"];
  if (!vocab.value().is_array()) vocab.refuse("a list of tokens with scores");
  for (const nlohmann::json& pair : vocab.value()) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_number()) {
      vocab.element(pieces.size()).refuse("a token with its score");
    }
    vocabulary.insert_or_assign(pair[0].get<std::string>(), static_cast<int32_t>(pieces.size()));
    pieces.emplace_back(pair[0].get<std::string>(), pair[1].get<double>());
  }
  const auto count = static_cast<int64_t>(pieces.size());
  check(count > 0 && count <= kLargestTokenId,
        "Expected from 1 to {} tokens in model.vocab of {}, but got {}", kLargestTokenId,
        model.file(), count);
  const int64_t unknown = model.integer("unk_id", 0, count - 1);
  auto unigram = std::make_unique<Unigram>(std::move(pieces), static_cast<int32_t>(unknown),
                                           model.boolean("byte_fallback", false), model.file());
  return {std::move(unigram), std::move(vocabulary)};
}

LoadedModel load_word_piece(const JsonNode& model) {
  Vocabulary vocabulary = read_vocabulary(model["vocab"]);
  auto word_piece = std::make_unique<WordPiece>(
      vocabulary,
      WordPiece::Options{.unknown = id_of_token(model["unk_token"], vocabulary),
                         .continuing_prefix = model.text("continuing_subword_prefix"),
                         .longest_word = model.integer("max_input_chars_per_word", 0, INT32_MAX)});
  return {std::move(word_piece), std::move(vocabulary)};
}

LoadedModel load_word_level(const JsonNode& model) {
  Vocabulary vocabulary = read_vocabulary(model["vocab"]);
  auto words = std::make_unique<WordLevel>(vocabulary, id_of_token(model["unk_token"], vocabulary));
  return {std::move(words), std::move(vocabulary)};
}

}  // namespace

Vocabulary read_vocabulary(const JsonNode& vocab) {
  if (!vocab.value().is_object()) vocab.refuse("a table of tokens and ids");
  Vocabulary vocabulary;
  vocabulary.reserve(vocab.value().size());
  std::unordered_map<int32_t, std::string_view> by_id;
  for (const auto& [spelling, id] : vocab.value().items()) {
    check(id.is_number_integer() && id >= 0 && id <= kLargestTokenId,
          "Expected {} of {} to map tokens to ids from 0 to {}, but '{}' has no valid id",
          vocab.name(), vocab.file(), kLargestTokenId, spelling);
    const auto place = vocabulary.emplace(spelling, id.get<int32_t>()).first;
    const auto [other, is_new] = by_id.emplace(place->second, place->first);
    check(is_new, "Expected one token per id in {} of {}, but '{}' and '{}' both have {}",
          vocab.name(), vocab.file(), other->second, spelling, place->second);
  }
  return vocabulary;
}

int32_t id_of_token(const JsonNode& node, const Vocabulary& vocabulary) {
  const auto found = node.value().is_string() ? vocabulary.find(node.value().get<std::string>())
                                              : vocabulary.end();
  if (found == vocabulary.end()) node.refuse("a token of the vocabulary");
  return found->second;
}

std::string model_type(const JsonNode& model) {
  if (const std::string type = model.type(); !type.empty()) return type;
  if (!model["type"].is_null()) model["type"].refuse("the name of a model");
  if (!model["merges"].is_null()) return "BPE";
  if (model["vocab"].value().is_array()) return "Unigram";
  if (!model["max_input_chars_per_word"].is_null()) return "WordPiece";
  return "WordLevel";
}

LoadedModel load_word_model(const JsonNode& model) {
  const std::string type = model_type(model);
  if (type == "BPE") return load_bpe(model);
  if (type == "Unigram") return load_unigram(model);
  if (type == "WordPiece") return load_word_piece(model);
  if (type == "WordLevel") return load_word_level(model);
  model["type"].refuse("BPE, Unigram, WordPiece or WordLevel");
}

}  // namespace megatron
