// The values of parameters in contiguous buckets.
#pragma once

#include "megatron/data_parallel/flat_buffer.h"
#include "megatron/data_parallel/parameter_buckets.h"

namespace megatron {

class ParameterBuffer {
 public:
  // Moves the parameters' values into buckets: from then on `data` of each is a view of one.
  explicit ParameterBuffer(std::vector<BucketLayout> layouts);

  const std::vector<BucketLayout>& layouts() const { return layouts_; }
  FlatBuffer& bucket(size_t index) { return buckets_[index]; }
  size_t num_buckets() const { return buckets_.size(); }

 private:
  std::vector<BucketLayout> layouts_;
  std::vector<FlatBuffer> buckets_;
};

}  // namespace megatron
