// A regular expression over valid UTF-8 text: PCRE2, compiled to machine code, with Unicode
// properties.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace megatron {

// Compiled once, shared by threads; each thread matches through a PatternMatcher of its own.
class Pattern {
 public:
  // Throws Error naming the position where the expression is wrong. \s means Unicode's White_Space,
  // as in Hugging Face's tokenizers, not PCRE2's slightly different set.
  explicit Pattern(std::string expression);
  // The text itself, not an expression.
  static Pattern literal(std::string_view text);

  const std::string& expression() const { return expression_; }

 private:
  friend class PatternMatcher;
  std::string expression_;
  std::shared_ptr<void> code_;
};

class PatternMatcher {
 public:
  explicit PatternMatcher(const Pattern& pattern);

  // The first match of `text` (valid UTF-8) at or after byte `from`, as [begin, end); begin == npos
  // where there is none. Throws Error where PCRE2 gives up.
  std::pair<size_t, size_t> find(std::string_view text, size_t from);

 private:
  std::shared_ptr<void> code_;
  std::shared_ptr<void> match_;
  std::string expression_;
};

}  // namespace megatron
