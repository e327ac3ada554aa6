#include "megatron/tokenizers/build_tokenizer.h"

#include "megatron/base/error.h"
#include "megatron/tokenizers/byte_tokenizer.h"
#include "megatron/tokenizers/tokenizer_json.h"
#include "megatron/tokenizers/vocab_merges.h"

namespace megatron {
namespace {

TokenizerType type_by_files(const TokenizerConfig& config) {
  const bool pair = !config.vocab_file.empty() || !config.merge_file.empty();
  const bool model = !config.tokenizer_model.empty();
  check(pair != model,
        "Expected the files of one tokenizer, but got {}; give --tokenizer-model, or --vocab-file "
        "and --merge-file",
        pair ? "those of two" : "none");
  return model ? TokenizerType::HuggingFaceTokenizer : TokenizerType::GPT2BPETokenizer;
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
  const TokenizerType type = config.tokenizer_type ? *config.tokenizer_type : type_by_files(config);
  switch (type) {
    case TokenizerType::GPT2BPETokenizer:
      refuse_files(config, /*pair=*/false, /*model=*/true, "GPT2BPETokenizer");
      check(!config.vocab_file.empty() && !config.merge_file.empty(),
            "Expected --vocab-file and --merge-file for GPT2BPETokenizer, but got '{}' and '{}'",
            config.vocab_file, config.merge_file);
      return load_vocab_merges(config.vocab_file, config.merge_file);
    case TokenizerType::HuggingFaceTokenizer:
      refuse_files(config, /*pair=*/true, /*model=*/false, "HuggingFaceTokenizer");
      check(!config.tokenizer_model.empty(),
            "Expected --tokenizer-model (a tokenizer.json) for HuggingFaceTokenizer, but got none");
      return load_tokenizer_json(config.tokenizer_model);
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
  int64_t& vocab_size = options.model.vocab_size;
  auto tokenizer =
      build_tokenizer(files, vocab_size > 0 ? std::optional(vocab_size) : std::nullopt);
  if (files.tokenizer_type == TokenizerType::NullTokenizer) vocab_size = tokenizer->vocab_size();
  check(vocab_size == 0 || vocab_size >= tokenizer->vocab_size(),
        "Expected --vocab-size of at least the tokenizer's {}, but got {}", tokenizer->vocab_size(),
        vocab_size);
  if (vocab_size == 0) vocab_size = tokenizer->vocab_size();
  return tokenizer;
}

std::unique_ptr<Tokenizer> build_model_tokenizer(const Options& options) {
  const bool null = options.tokenizer.tokenizer_type == TokenizerType::NullTokenizer;
  return build_tokenizer(options.tokenizer, options.model.vocab_size - (null ? 1 : 0));
}

}  // namespace megatron
