// Regular expressions over UTF-8 text, with the syntax and semantics of Hugging Face's tokenizers:
// Oniguruma, its default syntax.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "megatron/tokenizers/known_patterns.h"

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
  std::shared_ptr<void> regex_;  // not compiled where a scanner or a plain search does the work
};

class PatternMatcher {
 public:
  explicit PatternMatcher(const Pattern& pattern);

  // The leftmost match of `text` (valid UTF-8) that begins at or after byte `from`, as [begin,
  // end). begin is npos where there is none. Throws Error where Oniguruma gives up.
  std::pair<size_t, size_t> find(std::string_view text, size_t from);

 private:
  Pattern pattern_;
  std::shared_ptr<void> region_;
};

// The match that Oniguruma itself finds, never a hand-written scanner: what tests compare the
// scanners with.
std::pair<size_t, size_t> find_by_oniguruma(std::string_view expression, std::string_view text,
                                            size_t from);

}  // namespace megatron
