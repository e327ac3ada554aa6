// The tokenizer that the flags ask for.
#pragma once

#include <memory>
#include <optional>

#include "megatron/config/training_config.h"
#include "megatron/data/tokenizer.h"

namespace megatron {

// Without a tokenizer_type: tokenizer_model -> HuggingFaceTokenizer, vocab_file and merge_file ->
// GPT2BPETokenizer. NullTokenizer takes `vocab_size` ids. Throws Error where files are missing or
// do not belong to the type.
std::unique_ptr<Tokenizer> build_tokenizer(const TokenizerConfig& config,
                                           std::optional<int64_t> vocab_size = std::nullopt);

}  // namespace megatron
