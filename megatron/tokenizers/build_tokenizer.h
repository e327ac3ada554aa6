// The tokenizer that the flags ask for.
#pragma once

#include <memory>
#include <optional>

#include "megatron/config/options/options.h"
#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

// Without a tokenizer_type: tokenizer_model -> HuggingFaceTokenizer, vocab_file and merge_file ->
// GPT2BPETokenizer. NullTokenizer takes `vocab_size` ids. Throws Error where files are missing or
// do not belong to the type.
std::unique_ptr<Tokenizer> build_tokenizer(const TokenizerConfig& config,
                                           std::optional<int64_t> vocab_size = std::nullopt);

// The tokenizer of a run, or null where the options name none. Gives the model its vocabulary's
// size where that was not given; with a NullTokenizer one id more than that, the end of a document
// (as Megatron's). Throws Error for a given one that is smaller than the tokenizer's.
std::unique_ptr<Tokenizer> build_run_tokenizer(Options& options);

// That of a model whose vocabulary's size is known.
std::unique_ptr<Tokenizer> build_model_tokenizer(const Options& options);

}  // namespace megatron
