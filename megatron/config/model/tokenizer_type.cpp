#include <string_view>

#include "megatron/config/model/training_config.h"

namespace megatron {

TokenizerType tokenizer_type_of(const TokenizerConfig& config) {
  if (config.tokenizer_type) return *config.tokenizer_type;
  const std::string_view model = config.tokenizer_model;
  if (model.empty()) return TokenizerType::GPT2BPETokenizer;
  if (model.ends_with(".model")) return TokenizerType::SentencePieceTokenizer;
  if (model.ends_with(".tiktoken")) return TokenizerType::TikTokenizer;
  return TokenizerType::HuggingFaceTokenizer;
}

}  // namespace megatron
