// Flat memory that can be given back and taken again while views of it stay.
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// Views of tensor() keep their shapes; they may be read and written only while the memory is held.
class FlatBuffer {
 public:
  // Holds its memory, uninitialised.
  FlatBuffer(int64_t numel, at::TensorOptions options);

  const at::Tensor& tensor() const { return tensor_; }
  // Part `rank` of `count` equal ones; numel must divide.
  at::Tensor shard(int rank, int count) const;

  bool is_held() const { return held_; }
  void hold();  // uninitialised where it was not held
  void release();

 private:
  at::Tensor tensor_;
  bool held_ = true;
};

}  // namespace megatron
