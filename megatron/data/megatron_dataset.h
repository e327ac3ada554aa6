// What a training run reads: numbered samples of a fixed length.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace megatron {

// All vectors have sequence_length entries.
struct GPTSample {
  std::vector<int64_t> tokens;
  std::vector<int64_t> labels;   // the next token at each position
  std::vector<float> loss_mask;  // 0 where the label does not count
  std::vector<int64_t> position_ids;
};

class MegatronDataset {
 public:
  virtual ~MegatronDataset() = default;
  virtual int64_t size() const = 0;
  // 0 <= index < size(); Error otherwise. Safe to call from several threads.
  virtual GPTSample sample(int64_t index) const = 0;
};

}  // namespace megatron
