#include "megatron/data_parallel/flat_buffer.h"

#include <ATen/ops/empty.h>

namespace megatron {

FlatBuffer::FlatBuffer(int64_t numel, at::TensorOptions options)
    : tensor_(at::empty({numel}, options.requires_grad(false))) {}

at::Tensor FlatBuffer::shard(int rank, int count) const {
  const int64_t length = tensor_.numel() / count;
  return tensor_.narrow(0, rank * length, length);
}

void FlatBuffer::allocate() {
  if (allocated_) return;
  c10::Storage storage = tensor_.storage();
  storage.set_data_ptr_noswap(storage.allocator()->allocate(storage.nbytes()));
  allocated_ = true;
}

void FlatBuffer::free() {
  if (!allocated_) return;
  c10::Storage storage = tensor_.storage();
  storage.set_data_ptr_noswap({nullptr, storage.device()});
  allocated_ = false;
}

}  // namespace megatron
