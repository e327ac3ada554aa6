// Named tensors of another format: what a converter reads. A file format implements this interface.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/formats/rectangle.h"

namespace megatron {

struct SourceTensor {
  std::vector<int64_t> shape;
  at::ScalarType dtype;  // of what read() returns
};

// Not thread-safe; every rank opens its own source.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  // The file or folder, for messages.
  virtual std::string path() const = 0;
  // Sorted.
  virtual std::vector<std::string> names() const = 0;
  // Null if there is no tensor of that name. Reads no data.
  virtual const SourceTensor* find(const std::string& name) const = 0;
  // A rectangle of an existing tensor, of the type that find() gives: a view of the mapped file or a
  // new tensor. Reads no other data. Valid until release().
  virtual at::Tensor read(const std::string& name, const Rectangle& region) = 0;
  // The data of a tensor will not be read again soon: frees its memory.
  virtual void release(const std::string& /*name*/) {}
};

// The rectangle that is a whole tensor of `shape`.
Rectangle whole_rectangle(const std::vector<int64_t>& shape);

// View of the rectangle `inner` of `tensor`, whose first element has the global index `origin`.
at::Tensor narrow_to(at::Tensor tensor, const std::vector<int64_t>& origin, const Rectangle& inner);

}  // namespace megatron
