#include "megatron/tokenizers/text/segments.h"

#include "megatron/tokenizers/text/utf8.h"

namespace megatron {

std::vector<Segment> segments_by_pattern(const Pattern& pattern, std::string_view text) {
  std::vector<Segment> segments;
  PatternMatcher matcher(pattern);
  size_t done = 0;
  size_t from = 0;
  size_t last_end = std::string_view::npos;
  while (from <= text.size() && !text.empty()) {
    const auto [begin, end] = matcher.find(text, from);
    if (begin == std::string_view::npos) break;
    if (begin == end && end == last_end) {
      // Skip an empty match right after another match, so that the search advances.
      from += from < text.size() ? utf8_length(text[from]) : 1;
      continue;
    }
    if (done < begin) segments.push_back({done, begin, false});
    segments.push_back({begin, end, true});
    done = from = last_end = end;
  }
  if (done < text.size()) segments.push_back({done, text.size(), false});
  return segments;
}

std::vector<Segment> segments_by_character(const std::function<bool(uint32_t)>& matches,
                                           std::string_view text) {
  std::vector<Segment> segments;
  size_t done = 0;
  visit_characters(text, [&](uint32_t code_point, size_t begin, size_t end) {
    if (!matches(code_point)) return;
    if (done < begin) segments.push_back({done, begin, false});
    segments.push_back({begin, end, true});
    done = end;
  });
  if (done < text.size()) segments.push_back({done, text.size(), false});
  return segments;
}

Pattern read_pattern(const JsonNode& node) {
  const nlohmann::json& regex = node["Regex"].value();
  const nlohmann::json& literal = node["String"].value();
  if (regex.is_string()) return Pattern(regex.get<std::string>());
  if (literal.is_string()) return Pattern::literal(literal.get<std::string>());
  node.refuse("{Regex: ...} or {String: ...}");
}

}  // namespace megatron
