// Finds positions at which a long text can be split without a change of its ids.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "megatron/tokenizers/added_tokens.h"
#include "megatron/tokenizers/word_splitter.h"

namespace megatron {

class SafeCutFinder {
 public:
  SafeCutFinder() = default;
  // Finds no cuts unless every step is a known pattern and one of them ends words at spaces.
  SafeCutFinder(const std::vector<PreTokenizerStep>& steps,
                const std::vector<const std::vector<AddedToken>*>& added_tokens);

  // See Tokenizer::last_safe_cut.
  size_t last(std::string_view text, size_t limit) const;

 private:
  bool separates_words(std::string_view text, size_t cut) const;
  bool touches_added_token(std::string_view text, size_t cut) const;

  bool possible_ = false;
  bool after_newlines_ = false;  // false if steps add a prefix space: a part would begin with one
  std::vector<std::string> added_tokens_;
  size_t longest_added_token_ = 0;
};

}  // namespace megatron
