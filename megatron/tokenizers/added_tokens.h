// Added tokens, such as <|endoftext|>: matched in the text before it is split into words.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "megatron/tokenizers/text/prefix_trie.h"

namespace megatron {

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool left_strip = false;   // the match includes the white space before the token
  bool right_strip = false;  // the match includes the white space after the token
  bool single_word = false;  // only where no word character touches it
};

class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  // Calls on_text(begin, end) for the text between tokens, which may be empty, and on_token(id) for
  // each token, in order. Tokens are found from left to right, the longest of several at a place.
  // Any bytes are accepted.
  template <typename OnText, typename OnToken>
  void split(std::string_view text, OnText&& on_text, OnToken&& on_token) const {
    size_t done = 0;
    size_t from = 0;
    while (const auto found = find(text, from)) {
      from = found->search_end;
      if (!found->accepted) continue;
      const size_t begin = std::max(found->begin, done);
      on_text(done, begin);
      on_token(found->id);
      done = std::max(found->end, done);
    }
    on_text(done, text.size());
  }

 private:
  struct Found {
    size_t begin, end;  // with the white space that the token strips
    size_t search_end;  // the next search begins here
    int32_t id;
    bool accepted;
  };
  std::optional<Found> find(std::string_view text, size_t from) const;

  std::vector<AddedToken> tokens_;
  PrefixTrie trie_;  // content -> index
  std::string first_bytes_;
};

}  // namespace megatron
