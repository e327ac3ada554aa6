#include "megatron/tokenizers/text/prefix_trie.h"

#include <algorithm>

namespace megatron {

PrefixTrie::PrefixTrie(std::vector<std::pair<std::string, int32_t>> entries) {
  std::erase_if(entries, [](const auto& entry) { return entry.first.empty(); });
  if (entries.empty()) return;
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  // The entries below a node are neighbours in the sorted list.
  struct Range {
    size_t begin, end, depth;
  };
  std::vector<Range> ranges = {{0, entries.size(), 0}};
  nodes_.emplace_back();
  for (size_t node = 0; node < nodes_.size(); ++node) {
    auto [begin, end, depth] = ranges[node];
    while (begin < end && entries[begin].first.size() == depth) {
      nodes_[node].value = entries[begin++].second;
    }
    nodes_[node].first_child = static_cast<uint32_t>(nodes_.size());
    while (begin < end) {
      const char label = entries[begin].first[depth];
      size_t next = begin + 1;
      while (next < end && entries[next].first[depth] == label) ++next;
      nodes_.push_back({.label = static_cast<uint8_t>(label)});
      ranges.push_back({begin, next, depth + 1});
      ++nodes_[node].children;
      begin = next;
    }
  }
  for (uint32_t i = 0; i < nodes_[0].children; ++i) {
    roots_[nodes_[nodes_[0].first_child + i].label] = nodes_[0].first_child + i;
  }
}

uint32_t PrefixTrie::child(uint32_t node, uint8_t label) const {
  const auto begin = nodes_.begin() + nodes_[node].first_child;
  const auto end = begin + nodes_[node].children;
  const auto found = std::lower_bound(
      begin, end, label, [](const Node& child, uint8_t wanted) { return child.label < wanted; });
  return found == end || found->label != label ? 0 : static_cast<uint32_t>(found - nodes_.begin());
}

std::string PrefixTrie::first_bytes() const {
  std::string bytes;
  for (size_t byte = 0; byte < roots_.size(); ++byte) {
    if (roots_[byte] != 0) bytes += static_cast<char>(byte);
  }
  return bytes;
}

}  // namespace megatron
