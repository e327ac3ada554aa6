// A set of strings with values that finds all entries with which a text begins.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace megatron {

class PrefixTrie {
 public:
  PrefixTrie() = default;
  // Values are not negative. Of equal strings the last counts; an empty one is left out.
  explicit PrefixTrie(std::vector<std::pair<std::string, int32_t>> entries);

  bool empty() const { return nodes_.empty(); }

  // Calls visit(length, value) for each entry that is a prefix of `text`, shortest first.
  template <typename Visit>
  void visit_prefixes(std::string_view text, Visit&& visit) const {
    if (text.empty() || nodes_.empty()) return;
    uint32_t node = roots_[static_cast<unsigned char>(text[0])];
    for (size_t length = 1; node != 0; ++length) {
      if (nodes_[node].value >= 0) visit(length, nodes_[node].value);
      if (length == text.size()) return;
      node = child(node, static_cast<unsigned char>(text[length]));
    }
  }

  struct Match {
    size_t length = 0;  // 0: none
    int32_t value = -1;
  };
  Match longest(std::string_view text) const {
    Match match;
    visit_prefixes(text, [&](size_t length, int32_t value) { match = {length, value}; });
    return match;
  }

  // The bytes with which entries begin.
  std::string first_bytes() const;

 private:
  struct Node {
    uint32_t first_child = 0;  // children are neighbours, sorted by label
    uint16_t children = 0;
    uint8_t label = 0;
    int32_t value = -1;
  };
  uint32_t child(uint32_t node, uint8_t label) const;  // 0: none

  std::vector<Node> nodes_;  // nodes_[0] is the root
  std::array<uint32_t, 256> roots_{};
};

}  // namespace megatron
