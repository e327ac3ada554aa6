#include "megatron/tokenizers/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

// Unicode's White_Space property. PCRE2's own \s adds U+180E.
constexpr std::string_view kWhiteSpace =
    R"(\x{09}-\x{0D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

// Replaces \s and \S by that property, inside and outside of classes.
std::string with_unicode_space(std::string_view expression) {
  std::string result;
  bool in_class = false;
  for (size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    if (c == '\\' && i + 1 < expression.size()) {
      const char escaped = expression[++i];
      if (escaped == 's') {
        result += in_class ? std::string(kWhiteSpace) : fmt::format("[{}]", kWhiteSpace);
      } else if (escaped == 'S' && !in_class) {
        result += fmt::format("[^{}]", kWhiteSpace);
      } else {
        result += c;
        result += escaped;
      }
      continue;
    }
    if (c == '[' && !in_class) {
      in_class = true;
      result += c;
      if (i + 1 < expression.size() && expression[i + 1] == '^') result += expression[++i];
      // A bracket right after the opening one is a character.
      if (i + 1 < expression.size() && expression[i + 1] == ']') result += expression[++i];
      continue;
    }
    if (c == ']') in_class = false;
    result += c;
  }
  return result;
}

std::string pcre2_message(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

Pattern::Pattern(std::string expression) : expression_(std::move(expression)) {
  const std::string translated = with_unicode_space(expression_);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  check(code != nullptr, "Expected a regular expression, but got '{}': {} near '{}'", expression_,
        pcre2_message(error), translated.substr(offset, 20));
  // Where PCRE2 has no compiler for this processor, it interprets.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  code_.reset(code, [](void* pointer) { pcre2_code_free(static_cast<pcre2_code*>(pointer)); });
}

Pattern Pattern::literal(std::string_view text) {
  std::string expression;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x80 && !std::isalnum(static_cast<unsigned char>(c))) {
      expression += fmt::format("\\x{{{:x}}}", c);
    } else {
      expression += c;
    }
  }
  return Pattern(expression);
}

PatternMatcher::PatternMatcher(const Pattern& pattern)
    : code_(pattern.code_), expression_(pattern.expression_) {
  match_.reset(pcre2_match_data_create(1, nullptr), [](void* pointer) {
    pcre2_match_data_free(static_cast<pcre2_match_data*>(pointer));
  });
  check(match_ != nullptr, "Expected memory for matching, but got none");
}

std::pair<size_t, size_t> PatternMatcher::find(std::string_view text, size_t from) {
  auto* match = static_cast<pcre2_match_data*>(match_.get());
  const int count = pcre2_match(static_cast<const pcre2_code*>(code_.get()),
                                reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                PCRE2_NO_UTF_CHECK, match, nullptr);
  if (count == PCRE2_ERROR_NOMATCH) return {std::string_view::npos, std::string_view::npos};
  check(count >= 0, "Expected to match '{}', but PCRE2 gave up: {}", expression_,
        pcre2_message(count));
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match);
  return {bounds[0], bounds[1]};
}

}  // namespace megatron
