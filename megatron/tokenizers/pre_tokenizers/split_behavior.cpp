#include "megatron/tokenizers/pre_tokenizers/pre_tokenizer.h"

namespace megatron {
namespace {

// Joins each match with the text before it (`forward`), or with the text after it. A match next to
// another one stays alone.
std::vector<Segment> merge_matches(const std::vector<Segment>& segments, bool forward) {
  std::vector<Segment> merged;
  bool after_match = false;
  const auto take = [&](const Segment& segment) {
    if (segment.is_match && !after_match && !merged.empty()) {
      if (forward) {
        merged.back().end = segment.end;
      } else {
        merged.back().begin = segment.begin;
      }
    } else {
      merged.push_back(segment);
    }
    after_match = segment.is_match;
  };
  if (forward) {
    for (const Segment& segment : segments) take(segment);
    return merged;
  }
  for (auto segment = segments.rbegin(); segment != segments.rend(); ++segment) take(*segment);
  return {merged.rbegin(), merged.rend()};
}

std::vector<Segment> join_neighbours(const std::vector<Segment>& segments) {
  std::vector<Segment> joined;
  bool after_match = false;
  for (const Segment& segment : segments) {
    if (segment.is_match == after_match && !joined.empty()) {
      joined.back().end = segment.end;
    } else {
      joined.push_back(segment);
    }
    after_match = segment.is_match;
  }
  return joined;
}

}  // namespace

SplitBehavior read_split_behavior(const JsonNode& node) {
  const nlohmann::json& name = node.value();
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  node.refuse("Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

void append_parts(const TextPiece& piece, std::vector<Segment> segments, SplitBehavior behavior,
                  std::vector<TextPiece>& parts) {
  if (behavior == SplitBehavior::merged_with_previous) {
    segments = merge_matches(segments, /*forward=*/true);
  } else if (behavior == SplitBehavior::merged_with_next) {
    segments = merge_matches(segments, /*forward=*/false);
  } else if (behavior == SplitBehavior::contiguous) {
    segments = join_neighbours(segments);
  }
  for (const auto& [begin, end, is_match] : segments) {
    if (begin == end || (is_match && behavior == SplitBehavior::removed)) continue;
    parts.push_back(piece.part(begin, end));
  }
}

}  // namespace megatron
