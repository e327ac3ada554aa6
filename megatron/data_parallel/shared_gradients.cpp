#include "megatron/data_parallel/shared_gradients.h"

#include <ATen/ATen.h>

namespace megatron {

void finalize_shared_gradients(const std::vector<ParameterPart>& parts,
                               const ProcessGroupCollection& groups) {
  if (groups.tp->size() > 1) {
    std::vector<at::Tensor> partial;
    for (const ParameterPart& part : parts) {
      if (part.parameter->sequence_parallel) partial.push_back(part.main_grad.view(-1));
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
    for (const ParameterPart& part : parts) {
      if (part.parameter->shared_embedding) groups.embd->all_reduce(part.main_grad);
    }
  }
}

}  // namespace megatron
