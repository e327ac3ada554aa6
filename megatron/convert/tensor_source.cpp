#include "megatron/convert/tensor_source.h"

namespace megatron {

Rectangle whole_rectangle(const std::vector<int64_t>& shape) {
  return {std::vector<int64_t>(shape.size(), 0), shape};
}

at::Tensor narrow_to(at::Tensor tensor, const std::vector<int64_t>& origin,
                     const Rectangle& inner) {
  for (size_t d = 0; d < origin.size(); ++d) {
    tensor = tensor.narrow(static_cast<int64_t>(d), inner.offset[d] - origin[d], inner.shape[d]);
  }
  return tensor;
}

}  // namespace megatron
