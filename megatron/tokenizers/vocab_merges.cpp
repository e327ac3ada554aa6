#include "megatron/tokenizers/vocab_merges.h"

#include "megatron/base/error.h"
#include "megatron/formats/json_file.h"
#include "megatron/tokenizers/bpe_tokenizer.h"

namespace megatron {
namespace {

void read_vocab(const std::string& path, BpeTokenizerParts& parts) {
  const nlohmann::json vocab = read_json_file(path, "a vocab.json");
  check(vocab.is_object() && !vocab.empty(),
        "Expected a vocab.json that maps tokens to ids, but {} does not", path);
  parts.vocabulary.reserve(vocab.size());
  for (const auto& [spelling, id] : vocab.items()) {
    check(id.is_number_integer() && id >= 0 && id < (1 << 24),
          "Expected a vocab.json that maps tokens to ids, but '{}' of {} has no valid id", spelling,
          path);
    parts.vocabulary.emplace(spelling, id.get<int32_t>());
  }
}

void read_merges(const std::string& path, BpeTokenizerParts& parts) {
  const std::string text = read_text_file(path, "a merges.txt");
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || (number == 1 && line.starts_with("#version"))) continue;
    const size_t space = line.find(' ');
    check(space != std::string::npos && space > 0 && space + 1 < line.size() &&
              line.find(' ', space + 1) == std::string::npos,
          "Expected a merges.txt with two tokens per line, but line {} of {} is '{}'", number, path,
          line.substr(0, 40));
    parts.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
}

}  // namespace

std::unique_ptr<Tokenizer> load_vocab_merges(const std::string& vocab_file,
                                             const std::string& merge_file) {
  BpeTokenizerParts parts;
  parts.kind = "GPT2BPETokenizer";
  parts.path = vocab_file;
  read_vocab(vocab_file, parts);
  read_merges(merge_file, parts);
  parts.steps.push_back({.pattern = Pattern(kGpt2Words)});
  const auto eod = parts.vocabulary.find("<|endoftext|>");
  if (eod != parts.vocabulary.end()) parts.eod = eod->second;
  return std::make_unique<BpeTokenizer>(std::move(parts));
}

}  // namespace megatron
