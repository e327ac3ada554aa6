#include "megatron/config/model/pipeline_layout_string.h"

#include <charconv>

#include "megatron/base/error.h"

namespace megatron {
namespace {

constexpr size_t kMostSymbols = 100'000;
constexpr int kDeepest = 16;

// Recursive-descent parser: a sequence of symbols and parenthesized groups, each with an optional
// count.
class LayoutParser {
 public:
  explicit LayoutParser(std::string_view text) : text_(text) {}

  std::string whole() {
    std::string symbols = sequence();
    expect(place_ == text_.size(), "a '(' before this ')'");
    return symbols;
  }

 private:
  std::string sequence() {
    std::string symbols;
    for (skip_commas(); place_ < text_.size() && text_[place_] != ')'; skip_commas()) {
      const std::string item = text_[place_] == '(' ? group() : symbol();
      const size_t times = count();
      check(symbols.size() + times * item.size() <= kMostSymbols,
            "Expected a pipeline layout of at most {} symbols, but got more; smaller numbers after "
            "'*' "
            "work",
            kMostSymbols);
      for (size_t i = 0; i < times; ++i) symbols += item;
    }
    return symbols;
  }

  std::string group() {
    expect(++depth_ <= kDeepest, "at most 16 nested parentheses");
    ++place_;
    const std::string symbols = sequence();
    expect(place_ < text_.size(), "a ')' for each '('");
    ++place_;
    --depth_;
    return symbols;
  }

  std::string symbol() {
    expect(std::string_view("EtmL|").find(text_[place_]) != std::string_view::npos,
           "E (embedding), t (decoder layer), m (MTP layer), L (loss), | (next stage) or "
           "(...)*n");
    return std::string(1, text_[place_++]);
  }

  // The count after '*', or 1.
  size_t count() {
    skip_commas();
    if (place_ == text_.size() || text_[place_] != '*') return 1;
    ++place_;
    size_t number = 0;
    const char* const begin = text_.data() + place_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), number);
    expect(error == std::errc{} && number >= 1 && number <= kMostSymbols,
           fmt::format("a number of 1 to {} after '*'", kMostSymbols));
    place_ += static_cast<size_t>(end - begin);
    return number;
  }

  void skip_commas() {
    while (place_ < text_.size() && text_[place_] == ',') ++place_;
  }

  void expect(bool holds, std::string_view what) const {
    check(holds,
          "Expected {} in pipeline_model_parallel_layout '{}', but got {} at character {}; "
          "Et*3|t*4|tL is a layout of three stages",
          what, text_, place_ < text_.size() ? fmt::format("'{}'", text_[place_]) : "its end",
          place_ + 1);
  }

  std::string_view text_;
  size_t place_ = 0;
  int depth_ = 0;
};

}  // namespace

std::vector<std::string> expand_pipeline_layout(std::string_view layout) {
  std::vector<std::string> stages(1);
  for (const char symbol : LayoutParser(layout).whole()) {
    if (symbol == '|') {
      stages.emplace_back();
    } else {
      stages.back() += symbol;
    }
  }
  return stages;
}

}  // namespace megatron
