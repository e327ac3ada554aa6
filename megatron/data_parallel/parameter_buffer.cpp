#include "megatron/data_parallel/parameter_buffer.h"

#include <ATen/ATen.h>

namespace megatron {

ParameterBuffer::ParameterBuffer(std::vector<BucketLayout> layouts) : layouts_(std::move(layouts)) {
  const at::NoGradGuard no_grad;
  for (const BucketLayout& layout : layouts_) {
    const FlatBuffer& bucket = buckets_.emplace_back(
        layout.numel, at::TensorOptions().dtype(layout.dtype).device(layout.device));
    bucket.tensor().zero_();
    for (const auto& [parameter, start] : layout.slots) {
      const at::Tensor values =
          bucket.tensor().narrow(0, start, parameter->data.numel()).view(parameter->data.sizes());
      values.copy_(parameter->data);
      parameter->data.set_data(values);
    }
  }
}

}  // namespace megatron
