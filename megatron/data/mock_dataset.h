// Megatron's mock documents (MockGPTLowLevelDataset), generated without files. A document is 1, 2,
// 3, ... modulo the vocabulary size, then the end-of-document token: a model learns it quickly.
#pragma once

#include "megatron/data/low_level_dataset.h"

namespace megatron {

class MockLowLevelDataset : public LowLevelDataset {
 public:
  static constexpr int64_t kDocuments = 100000;
  static constexpr int32_t kMaxLength = 4096;

  // Ids are below vocab_size; eod_id ends each document.
  MockLowLevelDataset(int64_t vocab_size, int64_t eod_id);

  int64_t num_sequences() const override { return std::ssize(lengths_); }
  int32_t sequence_length(int64_t sequence) const override {
    return lengths_[static_cast<size_t>(sequence)];
  }
  void append_tokens(int64_t sequence, int64_t offset, int64_t count,
                     std::vector<int64_t>& tokens) const override;
  std::string path() const override { return "mock"; }

 private:
  int64_t vocab_size_;
  int64_t eod_id_;
  std::vector<int32_t> lengths_;
};

}  // namespace megatron
