// All-to-all with a gradient.
#pragma once

#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/parallel/process_group.h"

namespace megatron {

// [sum of input_splits, ...] -> [sum of output_splits, ...]: input_splits[r] rows go to rank r, and
// output_splits[r] rows come from it. Backward sends the gradients back. In a group of one it is the
// identity. The group must outlive the graph. Collective, in backward too.
at::Tensor all_to_all(const at::Tensor& input, const ProcessGroup& group,
                      std::vector<int64_t> output_splits, std::vector<int64_t> input_splits);

// An all-to-all in flight. Its output has its values after wait(), which must be called once.
class PendingAllToAll {
 public:
  PendingAllToAll(const at::Tensor& input, const ProcessGroup& group,
                  std::vector<int64_t> output_splits, std::vector<int64_t> input_splits);
  // As all_to_all() returns it.
  at::Tensor wait();

 private:
  std::shared_ptr<Work> work_;  // null in a group of one
  at::Tensor output_;
};

}  // namespace megatron
