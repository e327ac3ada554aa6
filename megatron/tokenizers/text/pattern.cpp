#include "megatron/tokenizers/text/pattern.h"

#include <limits>
#include <mutex>
#include <oniguruma.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

constexpr std::pair<size_t, size_t> kNowhere{std::string_view::npos, std::string_view::npos};

const OnigUChar* onig_bytes(const char* text) {
  return reinterpret_cast<const OnigUChar*>(text);
}

std::string onig_message(int code, OnigErrorInfo* info = nullptr) {
  OnigUChar buffer[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int size = info != nullptr ? onig_error_code_to_str(buffer, code, info)
                                   : onig_error_code_to_str(buffer, code);
  return {reinterpret_cast<const char*>(buffer), static_cast<size_t>(size)};
}

std::shared_ptr<void> compile(const std::string& expression) {
  static std::once_flag initialized;
  std::call_once(initialized, [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    onig_initialize(encodings, 1);
  });
  OnigRegex regex = nullptr;
  OnigErrorInfo info{};
  const OnigUChar* begin = onig_bytes(expression.data());
  const int status = onig_new(&regex, begin, begin + expression.size(), ONIG_OPTION_NONE,
                              ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, &info);
  check(status == ONIG_NORMAL, "Expected a regular expression, but got '{}': {}", expression,
        onig_message(status, &info));
  return {regex, [](void* pointer) { onig_free(static_cast<OnigRegex>(pointer)); }};
}

std::shared_ptr<void> make_region() {
  return {onig_region_new(), [](void* pointer) {
            onig_region_free(static_cast<OnigRegion*>(pointer), /*free_self=*/1);
          }};
}

std::pair<size_t, size_t> search(const std::string& expression, void* regex, void* region_memory,
                                 std::string_view text, size_t from) {
  check(text.size() <= std::numeric_limits<int>::max(),  // Oniguruma's offsets are of type int
        "Expected texts below 2 GiB for the expression '{}', but got {} bytes; split the document",
        expression, text.size());
  auto* region = static_cast<OnigRegion*>(region_memory);
  const OnigUChar* begin = onig_bytes(text.data());
  const OnigUChar* end = begin + text.size();
  const int found = onig_search(static_cast<OnigRegex>(regex), begin, end, begin + from, end,
                                region, ONIG_OPTION_NONE);
  if (found == ONIG_MISMATCH) return kNowhere;
  check(found >= 0, "Expected to match '{}', but Oniguruma gave up: {}", expression,
        onig_message(found));
  return {static_cast<size_t>(region->beg[0]), static_cast<size_t>(region->end[0])};
}

}  // namespace

Pattern::Pattern(std::string expression)
    : expression_(std::move(expression)), known_(find_known_pattern(expression_)) {
  if (known_ == nullptr || known_->scan == nullptr) regex_ = compile(expression_);
}

Pattern Pattern::literal(std::string_view text) {
  if (text.empty()) return Pattern(std::string());
  Pattern pattern;
  pattern.expression_ = text;
  pattern.is_literal_ = true;
  return pattern;
}

WordBoundaries Pattern::boundaries() const {
  return known_ != nullptr ? known_->boundaries : WordBoundaries::unknown;
}

PatternMatcher::PatternMatcher(const Pattern& pattern)
    : pattern_(pattern), region_(pattern.regex_ ? make_region() : nullptr) {}

std::pair<size_t, size_t> PatternMatcher::find(std::string_view text, size_t from) {
  if (pattern_.regex_) {
    return search(pattern_.expression_, pattern_.regex_.get(), region_.get(), text, from);
  }
  if (from >= text.size()) return kNowhere;
  if (!pattern_.is_literal_) return pattern_.known_->scan(text, from);
  const std::string_view literal = pattern_.expression_;
  const size_t begin = text.find(literal, from);
  if (begin == std::string_view::npos) return kNowhere;
  return {begin, begin + literal.size()};
}

std::pair<size_t, size_t> find_by_oniguruma(std::string_view expression, std::string_view text,
                                            size_t from) {
  const std::string copy(expression);
  const auto regex = compile(copy);
  return search(copy, regex.get(), make_region().get(), text, from);
}

}  // namespace megatron
