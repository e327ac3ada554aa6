// The blocks of a paged key-value cache: who uses them, and which hold content that other sequences
// can share. It knows block numbers only; a ModelRunner holds the memory.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace megatron {

// Names the content of a block: a 128-bit hash of its tokens and of those before it.
struct BlockKey {
  uint64_t high = 0, low = 0;
  bool operator==(const BlockKey&) const = default;
};

// The key of a block with `tokens` that follows a block of key `previous`. Blocks whose content was
// computed differently (in other chunks, with other frequencies) differ in `variant`.
BlockKey block_key(const BlockKey& previous, std::span<const int64_t> tokens, int64_t variant);

// A block is free, or used by one or more sequences, or cached: used by none, but with published
// content that find() can still return. Cached blocks are reused, least recently used first, once
// no block is free.
class BlockManager {
 public:
  // Throws Error unless both are at least 1.
  BlockManager(int64_t num_blocks, int64_t block_size);

  int64_t num_blocks() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t block_size() const { return block_size_; }
  // Blocks that hold `tokens` tokens.
  int64_t blocks_for(int64_t tokens) const { return (tokens + block_size_ - 1) / block_size_; }
  // Blocks that allocate() can still return: free or cached.
  int64_t available() const { return num_blocks() - used_; }
  int64_t cached() const { return static_cast<int64_t>(least_recent_.size()); }

  // A block with one user and no published content. None where all blocks are used.
  std::optional<int64_t> allocate();
  // The block with this content, with one user more. None if there is none.
  std::optional<int64_t> find(const BlockKey& key);
  bool contains(const BlockKey& key) const { return by_key_.contains(key); }
  // Declares the content of a used block, which must not change from now on. Where another block
  // already has this content, that one stays the shared one.
  void publish(int64_t block, const BlockKey& key);
  // Removes one user. Release a sequence's last block first: it is then the first to be reused, and
  // the beginnings that others may share stay longest.
  void release(int64_t block);

  // Cached blocks that were reused for other content.
  int64_t evictions() const { return evictions_; }

  // Throws Error unless every block is free, used or cached, exactly once. For tests.
  void check_conserved() const;

 private:
  struct Block {
    int64_t users = 0;
    std::optional<BlockKey> key;
    std::list<int64_t>::iterator recency;  // in least_recent_; valid while cached
  };
  struct HashOfKey {
    size_t operator()(const BlockKey& key) const { return static_cast<size_t>(key.low); }
  };

  Block& used_block(int64_t block);

  int64_t block_size_;
  int64_t used_ = 0, evictions_ = 0;
  std::vector<Block> blocks_;
  std::vector<int64_t> free_;
  std::list<int64_t> least_recent_;  // cached blocks, least recently used first
  std::unordered_map<BlockKey, int64_t, HashOfKey> by_key_;
};

}  // namespace megatron
