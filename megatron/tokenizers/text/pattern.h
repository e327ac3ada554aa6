// Regular expressions over UTF-8 text with the syntax and semantics of Hugging Face's tokenizers:
// Oniguruma in its default syntax. Unicode properties are those of the linked Oniguruma.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "megatron/tokenizers/text/known_patterns.h"

namespace megatron {

// Compiled once and shared by threads; each thread matches through its own PatternMatcher.
class Pattern {
 public:
  // Throws Error with Oniguruma's message for an invalid expression.
  explicit Pattern(std::string expression);
  // Matches `text` itself; an empty text matches at every position.
  static Pattern literal(std::string_view text);

  const std::string& expression() const { return expression_; }
  WordBoundaries boundaries() const;

 private:
  friend class PatternMatcher;
  Pattern() = default;

  std::string expression_;
  bool is_literal_ = false;
  const KnownPattern* known_ = nullptr;
  std::shared_ptr<void> regex_;  // null if a scanner or a plain search matches instead
};

class PatternMatcher {
 public:
  explicit PatternMatcher(const Pattern& pattern);

  // The leftmost match of `text` (valid UTF-8) that begins at or after byte `from`, as [begin,
  // end). begin is npos if there is none. Throws Error if Oniguruma exceeds its limits.
  std::pair<size_t, size_t> find(std::string_view text, size_t from);

 private:
  Pattern pattern_;
  std::shared_ptr<void> region_;
};

// The match by Oniguruma even if a scanner exists: the reference in tests of the scanners.
std::pair<size_t, size_t> find_by_oniguruma(std::string_view expression, std::string_view text,
                                            size_t from);

}  // namespace megatron
