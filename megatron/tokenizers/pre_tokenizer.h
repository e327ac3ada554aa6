// Cuts text into the words that byte-pair encoding works on: a chain of splits, each on the pieces
// that the one before left (Hugging Face's pre_tokenizer).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "megatron/tokenizers/pattern.h"
#include "megatron/tokenizers/utf8.h"

namespace megatron {

// GPT-2's expression for words, which ByteLevel uses unless told not to.
inline constexpr const char* kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct PreTokenizerStep {
  Pattern pattern;
  bool keep_matches = true;
  bool keep_between = true;       // what lies between the matches
  bool add_prefix_space = false;  // put a space before a piece that does not begin with one
};

// One thread's means of cutting.
class WordSplitter {
 public:
  explicit WordSplitter(const std::vector<PreTokenizerStep>& steps) : steps_(steps) {
    for (const auto& step : steps_) matchers_.emplace_back(step.pattern);
  }

  // Calls emit(word) for each word of `text` (valid UTF-8) in order. The view lives only for the
  // call.
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
    while (from < piece.size()) {
      const auto [begin, end] = matchers_[index].find(piece, from);
      if (begin == std::string_view::npos) break;
      if (end == begin) {
        // An empty match cuts nothing; look further on.
        if (begin >= piece.size()) break;
        from = begin + utf8_length(piece[begin]);
        continue;
      }
      if (step.keep_between) split_from(index + 1, piece.substr(done, begin - done), emit);
      if (step.keep_matches) split_from(index + 1, piece.substr(begin, end - begin), emit);
      done = from = end;
    }
    if (step.keep_between) split_from(index + 1, piece.substr(done), emit);
  }

  const std::vector<PreTokenizerStep>& steps_;
  std::vector<PatternMatcher> matchers_;
};

}  // namespace megatron
