#include "megatron/tokenizers/tokenizer_json.h"

#include <filesystem>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/formats/json_file.h"
#include "megatron/tokenizers/bpe_tokenizer.h"

namespace megatron {
namespace {

using nlohmann::json;

const json& member(const json& object, const char* key) {
  static const json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

std::string type_of(const json& object) {
  const json& type = member(object, "type");
  return type.is_string() ? type.get<std::string>() : "";
}

// A value in an error message: a component by its type, a sequence by the types of its components,
// anything else by its JSON text.
std::string describe(const json& value) {
  const std::string type = type_of(value);
  if (type.empty()) {
    std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
    return text.size() > 60 ? text.substr(0, 57) + "..." : text;
  }
  std::vector<std::string> components;
  for (const auto& [key, list] : value.items()) {
    if (type != "Sequence" || !list.is_array()) continue;
    for (const json& component : list) components.push_back(describe(component));
  }
  return components.empty() ? type : fmt::format("{} of {}", type, fmt::join(components, ", "));
}

// The file and path of a JSON value, for errors.
struct Place {
  const std::string& file;
  std::string name;

  [[noreturn]] void refuse(const std::string& supported, const json& got) const {
    fail("Expected {} of {} to be {}, but got {}, which this version does not support", name, file,
         supported, describe(got));
  }
};

bool flag(const json& object, const char* key, bool otherwise, const Place& place) {
  const json& value = member(object, key);
  if (value.is_null()) return otherwise;
  if (!value.is_boolean()) Place{place.file, place.name + "." + key}.refuse("true or false", value);
  return value.get<bool>();
}

void require_absent_or_empty(const json& object, const char* key, const Place& place) {
  const json& value = member(object, key);
  const bool absent = value.is_null() || value == false || value == "" || value == 0.0;
  if (!absent) Place{place.file, place.name + "." + key}.refuse("absent", value);
}

Pattern split_pattern(const json& step, const Place& place) {
  const json& pattern = member(step, "pattern");
  const json& regex = member(pattern, "Regex");
  const json& literal = member(pattern, "String");
  if (regex.is_string()) return Pattern(regex.get<std::string>());
  if (literal.is_string()) return Pattern::literal(literal.get<std::string>());
  Place{place.file, place.name + ".pattern"}.refuse("{Regex: ...} or {String: ...}", pattern);
}

PreTokenizerStep split_step(const json& step, const Place& place) {
  PreTokenizerStep result{.pattern = split_pattern(step, place)};
  const json& behavior = member(step, "behavior");
  const bool invert = flag(step, "invert", false, place);
  if (behavior == "Isolated") return result;
  if (behavior != "Removed") {
    Place{place.file, place.name + ".behavior"}.refuse("Isolated or Removed", behavior);
  }
  (invert ? result.keep_between : result.keep_matches) = false;
  return result;
}

// Appends the steps of one pre-tokenizer. Returns whether ByteLevel is among them.
bool append_steps(const json& pre_tokenizer, const Place& place,
                  std::vector<PreTokenizerStep>& steps) {
  const std::string type = type_of(pre_tokenizer);
  if (type == "Sequence") {
    const json& parts = member(pre_tokenizer, "pretokenizers");
    if (!parts.is_array()) place.refuse("a list of pretokenizers", parts);
    bool byte_level = false;
    for (size_t i = 0; i < parts.size(); ++i) {
      if (byte_level) place.refuse("a sequence that ends with ByteLevel", pre_tokenizer);
      byte_level = append_steps(
          parts[i], {place.file, fmt::format("{}.pretokenizers[{}]", place.name, i)}, steps);
    }
    return byte_level;
  }
  if (type == "Split") {
    steps.push_back(split_step(pre_tokenizer, place));
    return false;
  }
  if (type == "Digits") {
    const bool individual = flag(pre_tokenizer, "individual_digits", false, place);
    steps.push_back({.pattern = Pattern(individual ? R"(\p{N})" : R"(\p{N}+)")});
    return false;
  }
  if (type == "ByteLevel") {
    // Without its expression the step splits nothing and only adds the prefix space.
    const bool use_regex = flag(pre_tokenizer, "use_regex", true, place);
    const bool prefix = flag(pre_tokenizer, "add_prefix_space", true, place);
    if (use_regex || prefix) {
      steps.push_back(
          {.pattern = Pattern(use_regex ? kGpt2Words : kEverything), .add_prefix_space = prefix});
    }
    return true;
  }
  place.refuse("ByteLevel, Split, Digits or a Sequence of these", pre_tokenizer);
}

void read_model(const json& model, const std::string& file, BpeTokenizerParts& parts) {
  const Place place{file, "model"};
  const json& type = member(model, "type");
  // Early versions of the format have no type.
  if (!type.is_null() && type != "BPE") Place{file, "model.type"}.refuse("BPE", type);
  for (const char* key :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) {
    require_absent_or_empty(model, key, place);
  }
  parts.bpe.fuse_unknown = flag(model, "fuse_unk", false, place);
  parts.bpe.ignore_merges = flag(model, "ignore_merges", false, place);

  const json& vocab = member(model, "vocab");
  const json& merges = member(model, "merges");
  check(
      vocab.is_object() && merges.is_array(),
      "Expected a tokenizer.json with model.vocab and model.merges, but {} lacks them: it is not a "
      "tokenizer file",
      file);
  parts.vocabulary.reserve(vocab.size());
  for (const auto& [spelling, id] : vocab.items()) {
    check(id.is_number_integer() && id >= 0 && id < (1 << 24),
          "Expected model.vocab of {} to map tokens to ids, but '{}' has no valid id", file,
          spelling);
    parts.vocabulary.emplace(spelling, id.get<int32_t>());
  }
  const json& unknown = member(model, "unk_token");
  if (!unknown.is_null()) {
    const auto found = unknown.is_string() ? parts.vocabulary.find(unknown.get<std::string>())
                                           : parts.vocabulary.end();
    if (found == parts.vocabulary.end()) {
      Place{file, "model.unk_token"}.refuse("a token of the vocabulary", unknown);
    }
    parts.bpe.unknown = found->second;
  }
  parts.merges.reserve(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    const json& merge = merges[i];
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      parts.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    const std::string text = merge.is_string() ? merge.get<std::string>() : "";
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      Place{file, fmt::format("model.merges[{}]", i)}.refuse("a pair of tokens", merge);
    }
    parts.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
}

void read_added_tokens(const json& added, const std::string& file, BpeTokenizerParts& parts) {
  if (added.is_null()) return;
  if (!added.is_array()) Place{file, "added_tokens"}.refuse("a list", added);
  for (size_t i = 0; i < added.size(); ++i) {
    const json& entry = added[i];
    const Place place{file, fmt::format("added_tokens[{}]", i)};
    const json& content = member(entry, "content");
    const json& id = member(entry, "id");
    if (!content.is_string() || !id.is_number_integer() || id < 0 || id >= (1 << 24)) {
      place.refuse("a token with content and id", entry);
    }
    if (flag(entry, "single_word", false, place)) {
      Place{file, place.name + ".single_word"}.refuse("false", member(entry, "single_word"));
    }
    const bool special = flag(entry, "special", false, place);
    auto& tokens =
        flag(entry, "normalized", !special, place) ? parts.added_normalized : parts.added;
    tokens.push_back({content.get<std::string>(), id.get<int32_t>(),
                      flag(entry, "lstrip", false, place), flag(entry, "rstrip", false, place)});
  }
}

void check_normalizer(const json& normalizer, const std::string& file) {
  const bool empty_sequence = type_of(normalizer) == "Sequence" &&
                              member(normalizer, "normalizers").is_array() &&
                              member(normalizer, "normalizers").empty();
  if (!normalizer.is_null() && !empty_sequence) {
    Place{file, "normalizer"}.refuse("null", normalizer);
  }
}

std::string eos_of_config(const std::string& file) {
  const std::filesystem::path path =
      std::filesystem::path(file).parent_path() / "tokenizer_config.json";
  if (!std::filesystem::exists(path)) return "";
  const json config = read_json_file(path.string(), "a tokenizer_config.json");
  const json& eos = member(config, "eos_token");
  if (eos.is_string()) return eos.get<std::string>();
  const json& content = member(eos, "content");
  return content.is_string() ? content.get<std::string>() : "";
}

std::optional<int64_t> find_eod(const std::string& file, const BpeTokenizerParts& parts) {
  std::vector<std::string> names = {eos_of_config(file), "<|endoftext|>", "<|end_of_text|>", "</s>",
                                    "<eos>"};
  for (const auto& name : names) {
    if (name.empty()) continue;
    for (const auto* added : {&parts.added, &parts.added_normalized}) {
      for (const auto& token : *added) {
        if (token.content == name) return token.id;
      }
    }
    const auto found = parts.vocabulary.find(name);
    if (found != parts.vocabulary.end()) return found->second;
  }
  return std::nullopt;
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer_json(const std::string& path) {
  const json root = read_json_file(path, "a tokenizer.json");
  check(root.is_object() && root.contains("model"),
        "Expected a tokenizer.json with a model, but {} has none: it is not a tokenizer file",
        path);
  BpeTokenizerParts parts;
  parts.kind = "HuggingFaceTokenizer";
  parts.path = path;
  check_normalizer(member(root, "normalizer"), path);
  const Place pre_tokenizer{path, "pre_tokenizer"};
  if (!append_steps(member(root, "pre_tokenizer"), pre_tokenizer, parts.steps)) {
    pre_tokenizer.refuse("ByteLevel or a sequence with it", member(root, "pre_tokenizer"));
  }
  const json& decoder = member(root, "decoder");
  if (!decoder.is_null() && type_of(decoder) != "ByteLevel") {
    Place{path, "decoder"}.refuse("ByteLevel", decoder);
  }
  read_model(member(root, "model"), path, parts);
  read_added_tokens(member(root, "added_tokens"), path, parts);
  parts.eod = find_eod(path, parts);
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

}  // namespace megatron
