// The interface of training datasets: numbered samples of fixed length.
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
  std::vector<float> loss_mask;  // 0 where the label is excluded from the loss
  std::vector<int64_t> position_ids;
};

class MegatronDataset {
 public:
  virtual ~MegatronDataset() = default;
  virtual int64_t size() const = 0;
  // Throws Error unless 0 <= index < size(). Thread-safe.
  virtual GPTSample sample(int64_t index) const = 0;
};

}  // namespace megatron
