// Makes tokenizers from the command line's options.
#pragma once

#include <memory>
#include <optional>

#include "megatron/config/options/options.h"
#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

// Without a tokenizer_type, the names of the files select it (tokenizer_type_of). `vocab_size` is the
// number of ids of a NullTokenizer, and cuts the vocabulary of a TikTokenizer. Throws Error for
// missing files and for files that the type does not use.
std::unique_ptr<Tokenizer> build_tokenizer(const TokenizerConfig& config,
                                           std::optional<int64_t> vocab_size = std::nullopt);

// The tokenizer of a training run, or null if the options name none. Sets model.vocab_size if it is
// not given; a NullTokenizer adds one id to it for the end of a document, as Megatron's does.
// Throws Error if the given vocabulary is smaller than the tokenizer's.
std::unique_ptr<Tokenizer> build_run_tokenizer(Options& options);

// The tokenizer of an existing model: model.vocab_size is known.
std::unique_ptr<Tokenizer> build_model_tokenizer(const Options& options);

}  // namespace megatron
