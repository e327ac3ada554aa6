// Rows sorted by expert: where the rows of each expert begin and end.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace megatron {

class ExpertRows {
 public:
  // counts [e]: the number of rows of each expert, contiguous int64 on the CPU. Throws Error, which
  // names `operation`, for negative counts and for counts that do not add up to `rows`.
  ExpertRows(const at::Tensor& counts, int64_t rows, std::string_view operation);

  int64_t experts() const { return static_cast<int64_t>(offsets_.size()) - 1; }
  int64_t rows() const { return offsets_.back(); }
  int64_t first(int64_t expert) const { return offsets_[expert]; }
  int64_t size(int64_t expert) const { return offsets_[expert + 1] - offsets_[expert]; }
  // [e + 1], from 0 to rows().
  const std::vector<int64_t>& offsets() const { return offsets_; }

 private:
  std::vector<int64_t> offsets_;
};

}  // namespace megatron
