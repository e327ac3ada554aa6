// Documents whose tokens show where they came from, and requests of the golden cases.
#pragma once

#include <vector>

#include "megatron/base/error.h"
#include "megatron/data/gpt_dataset_index.h"

#include "tests/data/golden.h"

namespace megatron {

// Token j of document i is 1000 * i + j.
class NumberedDocuments : public LowLevelDataset {
 public:
  explicit NumberedDocuments(std::vector<int32_t> lengths) : lengths_(std::move(lengths)) {}
  int64_t num_sequences() const override { return std::ssize(lengths_); }
  int32_t sequence_length(int64_t i) const override { return lengths_.at(static_cast<size_t>(i)); }
  void append_tokens(int64_t i, int64_t offset, int64_t count,
                     std::vector<int64_t>& tokens) const override {
    check(offset >= 0 && count >= 0 && offset + count <= sequence_length(i), "Expected inside");
    for (int64_t j = 0; j < count; ++j) tokens.push_back(1000 * i + offset + j);
  }
  std::string path() const override { return "numbered"; }

 private:
  std::vector<int32_t> lengths_;
};

inline GPTDatasetIndexRequest request_of(const nlohmann::json& one) {
  GPTDatasetIndexRequest request;
  request.sequences = one["documents"].get<std::vector<int32_t>>();
  request.sequence_length = one["sequence_length"];
  if (!one["num_samples"].is_null()) request.num_samples = one["num_samples"].get<int64_t>();
  request.seed = one["seed"];
  request.add_extra_token = one["add_extra_token"] == 1;
  request.drop_last_partial_sequence = one["drop_last"];
  return request;
}

template <typename T>
std::vector<T> copied(std::span<const T> values) {
  return {values.begin(), values.end()};
}

}  // namespace megatron
