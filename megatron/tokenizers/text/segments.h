// Cuts a text at the matches of a pattern.
#pragma once

#include <cstddef>
#include <functional>
#include <string_view>
#include <vector>

#include "megatron/tokenizers/text/json_node.h"
#include "megatron/tokenizers/text/pattern.h"

namespace megatron {

// A part of a text: a match, which may be empty, or the text between two.
struct Segment {
  size_t begin;
  size_t end;
  bool is_match;
};

// All segments of `text` (valid UTF-8) in order. Throws Error if Oniguruma exceeds its limits.
std::vector<Segment> segments_by_pattern(const Pattern& pattern, std::string_view text);

// Each character for which `matches` holds is a match.
std::vector<Segment> segments_by_character(const std::function<bool(uint32_t)>& matches,
                                           std::string_view text);

// {"Regex": expression} or {"String": text}. Throws Error for anything else.
Pattern read_pattern(const JsonNode& node);

}  // namespace megatron
