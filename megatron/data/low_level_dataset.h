// A source of token sequences: .bin/.idx files or mock documents. GPTDataset builds samples from
// it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace megatron {

class LowLevelDataset {
 public:
  virtual ~LowLevelDataset() = default;
  virtual int64_t num_sequences() const = 0;
  // Number of tokens in a sequence, 0 <= sequence < num_sequences().
  virtual int32_t sequence_length(int64_t sequence) const = 0;
  // Appends tokens [offset, offset + count) of a sequence to `tokens`. Throws Error if they are out
  // of range.
  virtual void append_tokens(int64_t sequence, int64_t offset, int64_t count,
                             std::vector<int64_t>& tokens) const = 0;
  // The prefix of the files, for messages and cache names.
  virtual std::string path() const = 0;
};

}  // namespace megatron
