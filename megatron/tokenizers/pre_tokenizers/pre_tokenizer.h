// Splits of a text into the words that a model encodes: Hugging Face's pre_tokenizer.
// word_splitter.h is a faster form of some of them for byte-level BPE.
#pragma once

#include <memory>
#include <vector>

#include "megatron/tokenizers/text/json_node.h"
#include "megatron/tokenizers/text/segments.h"
#include "megatron/tokenizers/text/text_piece.h"

namespace megatron {

// Immutable, so that threads may share it.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  // Replaces each piece by its words. No piece is empty, before and after.
  virtual void split(std::vector<TextPiece>& pieces) const = 0;
};

// What becomes of the matches of a split.
enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

SplitBehavior read_split_behavior(const JsonNode& node);

// Appends the parts of `piece` that `segments` and `behavior` give.
void append_parts(const TextPiece& piece, std::vector<Segment> segments, SplitBehavior behavior,
                  std::vector<TextPiece>& parts);

// Split, ByteLevel, Metaspace, Digits, Punctuation, Whitespace, WhitespaceSplit, BertPreTokenizer,
// CharDelimiterSplit ("Delimiter"), FixedLength, or a Sequence of these; null for a null node. Throws
// Error, naming it, for anything else.
std::unique_ptr<PreTokenizer> make_pre_tokenizer(const JsonNode& node);

// Spaces become a mark, U+2581 as a rule; words begin at it.
std::unique_ptr<PreTokenizer> make_metaspace(const JsonNode& node);

}  // namespace megatron
