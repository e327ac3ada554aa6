// Large buffers outside the tensor allocator.
#pragma once

#include <cstdint>
#include <memory>

namespace megatron {

// Memory on pages as large as the system gives, aligned to 64 bytes; zeros at first.
class PageBuffer {
 public:
  PageBuffer() = default;
  explicit PageBuffer(int64_t bytes);

  void* data() const { return data_.get(); }
  int64_t bytes() const { return bytes_; }

 private:
  struct Unmap {
    int64_t bytes;
    void operator()(void* data) const;
  };
  int64_t bytes_ = 0;
  std::unique_ptr<void, Unmap> data_;
};

}  // namespace megatron
