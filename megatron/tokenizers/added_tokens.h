// Added tokens, such as <|endoftext|>: matched in the text before it is split into words.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace megatron {

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool left_strip = false;   // the match includes the white space before the token
  bool right_strip = false;  // the match includes the white space after the token
};

class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  struct Found {
    size_t begin;
    size_t end;
    int32_t id;
  };
  // The leftmost token that begins at or after `from`; of several there, the longest.
  std::optional<Found> find(std::string_view text, size_t from) const;

 private:
  std::array<std::vector<AddedToken>, 256> by_first_byte_;  // longest first
  std::string first_bytes_;
};

}  // namespace megatron
