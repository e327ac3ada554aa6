// The merges of byte-pair encoding: which pairs of neighbouring symbols join, and in which order.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace megatron {

class MergeTable {
 public:
  void reserve(size_t merges) { merges_.reserve(merges); }
  // Of equal pairs the last counts, as in Hugging Face's table.
  void add(int32_t left, int32_t right, int32_t rank, int32_t merged) {
    merges_.insert_or_assign(pair_key(left, right), Merge{rank, merged});
  }

  // Repeatedly replaces the pair of lowest rank, the leftmost first, by its merged symbol.
  void apply(std::vector<int32_t>& symbols) const;

 private:
  struct Merge {
    int32_t rank;
    int32_t id;
  };
  static uint64_t pair_key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  const Merge* find(int32_t left, int32_t right) const {
    const auto found = merges_.find(pair_key(left, right));
    return found == merges_.end() ? nullptr : &found->second;
  }
  void apply_to_short(std::vector<int32_t>& symbols) const;
  void apply_to_long(std::vector<int32_t>& symbols) const;

  std::unordered_map<uint64_t, Merge> merges_;
};

}  // namespace megatron
