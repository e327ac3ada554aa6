#include "megatron/tokenizers/build_tokenizer.h"

#include "megatron/base/error.h"
#include "megatron/config/model/enum_names.h"
#include "megatron/tokenizers/byte_tokenizer.h"
#include "megatron/tokenizers/sentencepiece_tokenizer.h"
#include "megatron/tokenizers/tiktoken.h"
#include "megatron/tokenizers/tokenizer_folder.h"
#include "megatron/tokenizers/vocab_merges.h"

namespace megatron {
namespace {

void check_one_tokenizer(const TokenizerConfig& config) {
  const bool pair = !config.vocab_file.empty() || !config.merge_file.empty();
  const bool model = !config.tokenizer_model.empty();
  check(pair != model,
        "Expected the files of one tokenizer, but got {}; give --tokenizer-model, or --vocab-file "
        "and --merge-file",
        pair ? "those of two" : "none");
}

// The name of the type, for a tokenizer that reads --tokenizer-model.
std::string check_model_file(const TokenizerConfig& config, TokenizerType type, const char* file) {
  const std::string name(enum_name(type));
  check(config.vocab_file.empty() && config.merge_file.empty(),
        "Expected no --vocab-file and --merge-file for {}, but got '{}' and '{}'; leave them out",
        name, config.vocab_file, config.merge_file);
  check(!config.tokenizer_model.empty(), "Expected --tokenizer-model ({}) for {}, but got none",
        file, name);
  return name;
}

void refuse_files(const TokenizerConfig& config, bool pair, bool model, const char* type) {
  check((config.vocab_file.empty() && config.merge_file.empty()) || !pair,
        "Expected no --vocab-file and --merge-file for {}, but got '{}' and '{}'; leave them out",
        type, config.vocab_file, config.merge_file);
  check(config.tokenizer_model.empty() || !model,
        "Expected no --tokenizer-model for {}, but got '{}'; leave it out", type,
        config.tokenizer_model);
}

}  // namespace

std::unique_ptr<Tokenizer> build_tokenizer(const TokenizerConfig& config,
                                           std::optional<int64_t> vocab_size) {
  if (!config.tokenizer_type) check_one_tokenizer(config);
  const TokenizerType type = tokenizer_type_of(config);
  switch (type) {
    case TokenizerType::GPT2BPETokenizer:
      refuse_files(config, /*pair=*/false, /*model=*/true, "GPT2BPETokenizer");
      check(!config.vocab_file.empty() && !config.merge_file.empty(),
            "Expected --vocab-file and --merge-file for GPT2BPETokenizer, but got '{}' and '{}'",
            config.vocab_file, config.merge_file);
      return load_vocab_merges(config.vocab_file, config.merge_file);
    case TokenizerType::HuggingFaceTokenizer:
      check_model_file(config, type, "a tokenizer.json or its folder");
      return load_hugging_face_tokenizer(config.tokenizer_model,
                                         config.tokenizer_hf_include_special_tokens);
    case TokenizerType::SentencePieceTokenizer:
    case TokenizerType::GPTSentencePieceTokenizer:
    case TokenizerType::Llama2Tokenizer: {
      const std::string name = check_model_file(config, type, "a SentencePiece model");
      return load_sentencepiece(config.tokenizer_model, name);
    }
    case TokenizerType::TikTokenizer:
      check_model_file(config, type, "a tiktoken vocabulary");
      return load_tiktoken(config.tokenizer_model,
                           {.pattern = config.tiktoken_pattern,
                            .num_special_tokens = config.tiktoken_num_special_tokens,
                            .special_tokens = config.tokenizer_special_tokens,
                            .vocab_size = vocab_size});
    case TokenizerType::ByteTokenizer:
      refuse_files(config, /*pair=*/true, /*model=*/true, "ByteTokenizer");
      return std::make_unique<ByteTokenizer>();
    case TokenizerType::NullTokenizer:
      refuse_files(config, /*pair=*/true, /*model=*/true, "NullTokenizer");
      check(vocab_size.has_value(), "Expected --vocab-size for NullTokenizer, but got none");
      return std::make_unique<NullTokenizer>(*vocab_size);
  }
  fail("Expected a known tokenizer type, but got number {}", static_cast<int>(type));
}

std::unique_ptr<Tokenizer> build_run_tokenizer(Options& options) {
  const TokenizerConfig& files = options.tokenizer;
  if (!files.tokenizer_type && files.tokenizer_model.empty() && files.vocab_file.empty())
    return nullptr;
  std::optional<int64_t>& vocab_size = options.model.vocab_size;
  auto tokenizer = build_tokenizer(files, vocab_size);
  if (files.tokenizer_type == TokenizerType::NullTokenizer) vocab_size = tokenizer->vocab_size();
  if (!vocab_size) vocab_size = tokenizer->vocab_size();
  check(*vocab_size >= tokenizer->vocab_size(),
        "Expected --vocab-size of at least the tokenizer's {}, but got {}", tokenizer->vocab_size(),
        *vocab_size);
  return tokenizer;
}

std::unique_ptr<Tokenizer> build_model_tokenizer(const Options& options) {
  const bool null = options.tokenizer.tokenizer_type == TokenizerType::NullTokenizer;
  return build_tokenizer(options.tokenizer, options.model.required_vocab_size() - (null ? 1 : 0));
}

}  // namespace megatron
