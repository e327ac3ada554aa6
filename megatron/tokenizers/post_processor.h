// The tokens that a tokenizer.json puts around a text: Hugging Face's post_processor.
#pragma once

#include <memory>
#include <vector>

#include "megatron/tokenizers/text/json_node.h"
#include "megatron/tokenizers/tokenizer.h"

namespace megatron {

struct SpecialTokens {
  std::vector<int64_t> before;
  std::vector<int64_t> after;
};

// TemplateProcessing (its template of single texts), BertProcessing, RobertaProcessing, ByteLevel,
// which adds none, or a Sequence of these; none for a null node. Throws Error, naming it, for
// anything else.
SpecialTokens read_post_processor(const JsonNode& node);

// `tokenizer`, with special tokens around each text that it encodes. Throws Error for ids that it
// does not know.
std::unique_ptr<Tokenizer> with_special_tokens(std::unique_ptr<Tokenizer> tokenizer,
                                               SpecialTokens tokens);

}  // namespace megatron
