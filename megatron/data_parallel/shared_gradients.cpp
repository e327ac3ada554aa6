#include "megatron/data_parallel/shared_gradients.h"

#include <ATen/ATen.h>

namespace megatron {

void finalize_shared_gradients(const std::vector<ParameterSlice>& slices,
                               const ProcessGroupCollection& groups) {
  if (groups.tp->size() > 1) {
    std::vector<at::Tensor> partial;
    for (const ParameterSlice& slice : slices) {
      if (slice.parameter->sequence_parallel) partial.push_back(slice.main_grad.view(-1));
    }
    if (!partial.empty()) {
      const at::Tensor flat = at::cat(partial);
      groups.tp->all_reduce(flat);
      int64_t start = 0;
      for (at::Tensor& gradient : partial) {
        gradient.copy_(flat.narrow(0, start, gradient.numel()));
        start += gradient.numel();
      }
    }
  }
  if (groups.embd && groups.embd->size() > 1) {
    for (const ParameterSlice& slice : slices) {
      if (slice.parameter->shared_embedding) groups.embd->all_reduce(slice.main_grad);
    }
  }
}

}  // namespace megatron
