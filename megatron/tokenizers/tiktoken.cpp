#include "megatron/tokenizers/tiktoken.h"

#include <algorithm>
#include <charconv>
#include <set>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/formats/json_file.h"
#include "megatron/tokenizers/bpe_tokenizer.h"
#include "megatron/tokenizers/models/word_model.h"
#include "megatron/tokenizers/text/base64.h"
#include "megatron/tokenizers/text/byte_alphabet.h"
#include "megatron/tokenizers/text/json_node.h"

namespace megatron {
namespace {

constexpr int64_t kMegatronVocabSize = 131072;
constexpr const char* kMegatronSpecialTokens[] = {"<unk>", "<s>",   "</s>", "<mask>",
                                                  "<pad>", "<cls>", "<sep>"};

using RankedTokens = std::vector<std::pair<std::string, int64_t>>;

RankedTokens read_lines(const std::string& text, const std::string& path) {
  RankedTokens tokens;
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line(text.data() + begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const size_t space = line.find(' ');
    const auto token = decode_base64(line.substr(0, space));
    int64_t rank = -1;
    const std::string_view digits = space == std::string_view::npos ? "" : line.substr(space + 1);
    const auto [rest, error] = std::from_chars(digits.data(), digits.data() + digits.size(), rank);
    check(token && !token->empty() && error == std::errc() &&
              rest == digits.data() + digits.size() && rank >= 0 && rank <= kLargestTokenId,
          "Expected lines with a token in base64 and its rank, but line {} of {} is '{}'", number,
          path, line.substr(0, 40));
    tokens.emplace_back(*token, rank);
  }
  return tokens;
}

RankedTokens read_list(const std::string& path) {
  RankedTokens tokens;
  const nlohmann::json content = read_json_file(path, "a tiktoken vocabulary");
  const JsonNode list(content, path);
  if (!content.is_array()) {
    fail(
        "Expected a list of tokens with ranks, but {} holds something else: it is not a tiktoken "
        "vocabulary; HuggingFaceTokenizer reads a tokenizer.json",
        path);
  }
  for (size_t i = 0; i < content.size(); ++i) {
    const JsonNode node = list.element(i);
    const auto rank = static_cast<int64_t>(i);
    node.integer("rank", rank, rank);
    const auto token = decode_base64(node.text("token_bytes"));
    if (!token || token->empty()) node["token_bytes"].refuse("a token in base64");
    tokens.emplace_back(*token, rank);
  }
  return tokens;
}

std::vector<std::string> all_special_tokens(const TikTokenOptions& options) {
  std::vector<std::string> tokens = options.special_tokens;
  if (tokens.empty()) {
    tokens.assign(std::begin(kMegatronSpecialTokens), std::end(kMegatronSpecialTokens));
  }
  for (const char* needed : kMegatronSpecialTokens) {
    check(std::ranges::find(tokens, needed) != tokens.end(),
          "Expected --tiktoken-special-tokens with {}, but got {}; '{}' is missing",
          fmt::join(kMegatronSpecialTokens, " "), fmt::join(tokens, " "), needed);
  }
  const auto count = static_cast<int64_t>(tokens.size());
  check(options.num_special_tokens >= count && options.num_special_tokens <= kLargestTokenId,
        "Expected --tiktoken-num-special-tokens from {} (the number of special tokens) to {}, but "
        "got {}",
        count, kLargestTokenId, options.num_special_tokens);
  for (int64_t id = count; id < options.num_special_tokens; ++id) {
    tokens.push_back(fmt::format("<SPECIAL_{}>", id));
  }
  const std::set<std::string> distinct(tokens.begin(), tokens.end());
  check(distinct.size() == tokens.size() && !distinct.contains(""),
        "Expected special tokens that are not empty and differ from each other, but got {}",
        fmt::join(options.special_tokens, " "));
  return tokens;
}

std::string spelling_of(std::string_view bytes) {
  std::string spelling;
  for (const char c : bytes) spelling += byte_alphabet()[static_cast<unsigned char>(c)];
  return spelling;
}

// Every way to make a token of two others.
void append_merges(const StringMap<int32_t>& by_bytes, BpeTokenizerParts& parts) {
  for (const auto& [token, id] : by_bytes) {
    const std::string_view bytes = token;
    for (size_t i = 1; i < bytes.size(); ++i) {
      if (!by_bytes.contains(bytes.substr(0, i)) || !by_bytes.contains(bytes.substr(i))) continue;
      parts.merges.emplace_back(spelling_of(bytes.substr(0, i)), spelling_of(bytes.substr(i)));
    }
  }
}

// Keeps the tokens of ranks below the vocabulary's size less the special tokens.
void cut_to_vocabulary(RankedTokens& tokens, bool is_list, const TikTokenOptions& options,
                       const std::string& path) {
  std::optional<int64_t> size = options.vocab_size;
  if (!size && is_list) {
    size = std::min(kMegatronVocabSize, std::ssize(tokens) + options.num_special_tokens);
  }
  if (!size) return;
  const int64_t ranks = *size - options.num_special_tokens;
  check(ranks >= 256 && ranks <= std::ssize(tokens),
        "Expected --vocab-size from {} to {} for {}, which has {} tokens besides {} special ones, "
        "but got {}",
        options.num_special_tokens + 256, options.num_special_tokens + std::ssize(tokens), path,
        tokens.size(), options.num_special_tokens, *size);
  std::erase_if(tokens, [&](const auto& token) { return token.second >= ranks; });
}

}  // namespace

std::unique_ptr<Tokenizer> load_tiktoken(const std::string& path, const TikTokenOptions& options) {
  const std::string text = read_text_file(path, "a tiktoken vocabulary");
  const size_t first = text.find_first_not_of(" \t\r\n");
  const bool is_list = first != std::string::npos && (text[first] == '[' || text[first] == '{');
  RankedTokens tokens = is_list ? read_list(path) : read_lines(text, path);
  cut_to_vocabulary(tokens, is_list, options, path);

  BpeTokenizerParts parts;
  parts.kind = "TikTokenizer";
  parts.path = path;
  parts.bpe = {.ignore_merges = true, .ranks_are_ids = true};
  parts.steps.push_back(
      {.pattern = Pattern(options.pattern == "v1" ? kTikTokenV1Words : kTikTokenV2Words)});
  int32_t next_id = 0;
  for (const std::string& token : all_special_tokens(options)) {
    if (token == "</s>") parts.eod = next_id;
    parts.added.push_back({.content = token, .id = next_id++});
  }
  StringMap<int32_t> by_bytes;
  std::set<int64_t> ranks;
  for (const auto& [token, rank] : tokens) {
    const bool is_new = by_bytes.emplace(token, static_cast<int32_t>(rank) + next_id).second;
    check(is_new && ranks.insert(rank).second,
          "Expected each token and each rank once in {}, but rank {} or its token occurs again",
          path, rank);
    parts.vocabulary.emplace(spelling_of(token), static_cast<int32_t>(rank) + next_id);
  }
  for (int byte = 0; byte < 256; ++byte) {
    check(by_bytes.contains(std::string_view(std::string(1, static_cast<char>(byte)))),
          "Expected tokens for all 256 bytes in {}, but byte {} has none", path, byte);
  }
  append_merges(by_bytes, parts);
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

}  // namespace megatron
