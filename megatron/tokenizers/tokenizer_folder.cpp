#include "megatron/tokenizers/tokenizer_folder.h"

#include <filesystem>

#include "megatron/base/error.h"
#include "megatron/formats/gguf_file.h"
#include "megatron/tokenizers/gguf_tokenizer.h"
#include "megatron/tokenizers/post_processor.h"
#include "megatron/tokenizers/sentencepiece_tokenizer.h"
#include "megatron/tokenizers/tokenizer_json.h"
#include "megatron/tokenizers/vocab_merges.h"

namespace megatron {
namespace {

std::unique_ptr<Tokenizer> load_hugging_face_sentencepiece(const std::string& path,
                                                           bool special_tokens) {
  auto tokenizer = load_sentencepiece(path, "HuggingFaceTokenizer");
  if (!special_tokens) return tokenizer;
  SpecialTokens tokens;
  const auto bos = sentencepiece_bos(*tokenizer);
  const auto eos = tokenizer->eod();
  if (bos && flag_of_tokenizer_config(path, "add_bos_token", true)) tokens.before = {*bos};
  if (eos && flag_of_tokenizer_config(path, "add_eos_token", false)) tokens.after = {*eos};
  return with_special_tokens(std::move(tokenizer), std::move(tokens));
}

}  // namespace

std::unique_ptr<Tokenizer> load_hugging_face_tokenizer(const std::string& path,
                                                       bool special_tokens) {
  const std::filesystem::path folder = path;
  if (!std::filesystem::is_directory(folder)) {
    if (GgufFile::is_gguf(folder)) return load_gguf_tokenizer(path, special_tokens);
    return load_tokenizer_json(path, {.special_tokens = special_tokens});
  }
  const auto has = [&](const char* file) { return std::filesystem::exists(folder / file); };
  if (has("tokenizer.json")) {
    return load_tokenizer_json((folder / "tokenizer.json").string(),
                               {.special_tokens = special_tokens});
  }
  if (has("tokenizer.model")) {
    return load_hugging_face_sentencepiece((folder / "tokenizer.model").string(), special_tokens);
  }
  check(has("vocab.json") && has("merges.txt"),
        "Expected a folder with tokenizer.json, tokenizer.model, or vocab.json and merges.txt, but "
        "{} has none of them",
        path);
  check(!special_tokens,
        "Expected a tokenizer.json in {} for --tokenizer-hf-include-special-tokens, but got "
        "vocab.json, which names no special tokens; leave the option out",
        path);
  return load_vocab_merges((folder / "vocab.json").string(), (folder / "merges.txt").string());
}

}  // namespace megatron
