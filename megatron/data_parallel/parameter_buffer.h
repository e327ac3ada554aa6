// The values of parameters in contiguous buckets.
#pragma once

#include "megatron/data_parallel/flat_buffer.h"
#include "megatron/data_parallel/parameter_buckets.h"

namespace megatron {

class ParameterBuffer {
 public:
  // Copies the parameters into buckets and makes Parameter::data a view of its bucket.
  explicit ParameterBuffer(std::vector<BucketLayout> layouts);

  const std::vector<BucketLayout>& layouts() const { return layouts_; }
  FlatBuffer& bucket(size_t index) { return buckets_[index]; }
  const FlatBuffer& bucket(size_t index) const { return buckets_[index]; }
  size_t num_buckets() const { return buckets_.size(); }

 private:
  std::vector<BucketLayout> layouts_;
  std::vector<FlatBuffer> buckets_;
};

}  // namespace megatron
