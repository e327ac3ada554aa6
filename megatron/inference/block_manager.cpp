#include "megatron/inference/block_manager.h"

#include <xxhash.h>

#include "megatron/base/error.h"

namespace megatron {

BlockKey block_key(const BlockKey& previous, std::span<const int64_t> tokens, int64_t variant) {
  const uint64_t prefix[] = {previous.high, previous.low, static_cast<uint64_t>(variant)};
  const XXH128_hash_t first = XXH3_128bits(prefix, sizeof prefix);
  const XXH128_hash_t hash = XXH3_128bits_withSeed(tokens.data(), tokens.size_bytes(), first.low64);
  return {hash.high64 ^ first.high64, hash.low64};
}

BlockManager::BlockManager(int64_t num_blocks, int64_t block_size) : block_size_(block_size) {
  check(num_blocks >= 1, "Expected at least one block of the key-value cache, but got {}",
        num_blocks);
  check(block_size >= 1, "Expected blocks of at least one token, but got {}", block_size);
  blocks_.resize(static_cast<size_t>(num_blocks));
  for (int64_t block = num_blocks; block-- > 0;) free_.push_back(block);
}

std::optional<int64_t> BlockManager::allocate() {
  int64_t block = 0;
  if (!free_.empty()) {
    block = free_.back();
    free_.pop_back();
  } else if (!least_recent_.empty()) {
    block = least_recent_.front();
    least_recent_.pop_front();
    by_key_.erase(*blocks_[block].key);
    blocks_[block].key.reset();
    ++evictions_;
  } else {
    return std::nullopt;
  }
  blocks_[block].users = 1;
  ++used_;
  return block;
}

std::optional<int64_t> BlockManager::find(const BlockKey& key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return std::nullopt;
  Block& block = blocks_[found->second];
  if (block.users++ == 0) {
    least_recent_.erase(block.recency);
    ++used_;
  }
  return found->second;
}

BlockManager::Block& BlockManager::used_block(int64_t block) {
  check(block >= 0 && block < num_blocks() && blocks_[block].users > 0,
        "Expected a block in use, but got block {} of {}", block, num_blocks());
  return blocks_[block];
}

void BlockManager::publish(int64_t block, const BlockKey& key) {
  Block& published = used_block(block);
  check(!published.key || *published.key == key,
        "Expected the content of block {} not to change, but got another key", block);
  if (by_key_.try_emplace(key, block).second) published.key = key;
}

void BlockManager::release(int64_t block) {
  Block& released = used_block(block);
  if (--released.users > 0) return;
  --used_;
  if (released.key) {
    released.recency = least_recent_.insert(least_recent_.end(), block);
  } else {
    free_.push_back(block);
  }
}

void BlockManager::check_conserved() const {
  std::vector<int> seen(blocks_.size(), 0);
  for (const int64_t block : free_) {
    ++seen[block];
    check(blocks_[block].users == 0 && !blocks_[block].key,
          "Expected free block {} without users and content", block);
  }
  for (const int64_t block : least_recent_) {
    ++seen[block];
    check(blocks_[block].users == 0 && blocks_[block].key,
          "Expected cached block {} with content and without users", block);
  }
  int64_t used = 0;
  for (int64_t block = 0; block < num_blocks(); ++block) {
    if (blocks_[block].users > 0) {
      ++used;
      ++seen[block];
    }
    check(seen[block] == 1, "Expected block {} to be free, used or cached once, but got {} times",
          block, seen[block]);
    if (blocks_[block].key) {
      const auto found = by_key_.find(*blocks_[block].key);
      check(found != by_key_.end() && found->second == block,
            "Expected the content of block {} to be found there", block);
    }
  }
  check(used == used_, "Expected {} used blocks, but counted {}", used_, used);
}

}  // namespace megatron
