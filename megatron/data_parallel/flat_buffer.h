// A flat buffer whose memory can be freed and allocated again while views of it stay valid.
#pragma once

#include <ATen/core/Tensor.h>

namespace megatron {

// Views of tensor() keep their shapes. Their elements may be accessed only while the buffer is
// allocated.
class FlatBuffer {
 public:
  // Allocated, with uninitialised elements.
  FlatBuffer(int64_t numel, at::TensorOptions options);

  const at::Tensor& tensor() const { return tensor_; }
  // A view of shard `rank` of `count` equal shards. `count` must divide the number of elements.
  at::Tensor shard(int rank, int count) const;

  bool is_allocated() const { return allocated_; }
  // Does nothing where the buffer is allocated; otherwise its elements are uninitialised.
  void allocate();
  void free();

 private:
  at::Tensor tensor_;
  bool allocated_ = true;
};

}  // namespace megatron
