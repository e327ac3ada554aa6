// Splits text into the words that byte-pair encoding works on: a chain of splits, each applied to
// the pieces of the one before (Hugging Face's pre_tokenizer).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "megatron/tokenizers/text/pattern.h"
#include "megatron/tokenizers/text/utf8.h"

namespace megatron {

struct PreTokenizerStep {
  Pattern pattern;
  bool keep_matches = true;
  bool keep_between = true;       // the text between matches
  bool add_prefix_space = false;  // prepend a space to each piece that does not begin with one
};

// Splits text in one thread.
class WordSplitter {
 public:
  explicit WordSplitter(const std::vector<PreTokenizerStep>& steps) : steps_(steps) {
    for (const auto& step : steps_) matchers_.emplace_back(step.pattern);
  }

  // Calls emit(word) for each word of `text` (valid UTF-8) in order. The view is valid only during
  // the call.
  template <typename Emit>
  void split(std::string_view text, Emit&& emit) {
    split_from(0, text, emit);
  }

 private:
  template <typename Emit>
  void split_from(size_t index, std::string_view piece, Emit& emit) {
    if (piece.empty()) return;
    if (index == steps_.size()) {
      emit(piece);
      return;
    }
    const PreTokenizerStep& step = steps_[index];
    std::string prefixed;
    if (step.add_prefix_space && piece[0] != ' ') {
      prefixed = ' ' + std::string(piece);
      piece = prefixed;
    }
    size_t done = 0;
    size_t from = 0;
    size_t last_end = std::string_view::npos;
    while (from < piece.size()) {
      const auto [begin, end] = matchers_[index].find(piece, from);
      if (begin == std::string_view::npos) break;
      if (end == begin && end == last_end) {
        // Skip an empty match right after another match, so that the search advances.
        from += utf8_length(piece[from]);
        continue;
      }
      // An empty match splits the text at its position.
      if (step.keep_between) split_from(index + 1, piece.substr(done, begin - done), emit);
      if (step.keep_matches) split_from(index + 1, piece.substr(begin, end - begin), emit);
      done = from = last_end = end;
    }
    if (step.keep_between) split_from(index + 1, piece.substr(done), emit);
  }

  const std::vector<PreTokenizerStep>& steps_;
  std::vector<PatternMatcher> matchers_;
};

}  // namespace megatron
