// Tokens that are found in the text before it is cut into words: special tokens such as
// <|endoftext|>.
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
  bool left_strip = false;   // takes the white space before it along
  bool right_strip = false;  // and after it
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
  // The leftmost token at or after `from`, the longest of those that begin there.
  std::optional<Found> find(std::string_view text, size_t from) const;

 private:
  std::array<std::vector<AddedToken>, 256> by_first_byte_;  // longest first
  std::string first_bytes_;
};

}  // namespace megatron
