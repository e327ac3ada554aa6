#include "megatron/parallel/all_to_all.h"

#include <numeric>
#include <utility>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace megatron {
namespace {

class AllToAllFunction : public torch::autograd::Function<AllToAllFunction> {
 public:
  // `work` is the address of the operation's place, which the caller waits for.
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input,
                            int64_t group, const std::vector<int64_t>& output_splits,
                            const std::vector<int64_t>& input_splits, int64_t work) {
    context->saved_data["group"] = group;
    context->saved_data["output_splits"] = output_splits;
    context->saved_data["input_splits"] = input_splits;
    std::vector<int64_t> shape = input.sizes().vec();
    shape[0] = std::accumulate(output_splits.begin(), output_splits.end(), int64_t{0});
    const at::Tensor output = at::empty(shape, input.options());
    *reinterpret_cast<std::shared_ptr<Work>*>(work) =
        reinterpret_cast<const ProcessGroup*>(group)->iall_to_all(output, input.contiguous(),
                                                                  output_splits, input_splits);
    return output;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto& group =
        *reinterpret_cast<const ProcessGroup*>(context->saved_data["group"].toInt());
    return {group.all_to_all(gradients[0], context->saved_data["input_splits"].toIntVector(),
                             context->saved_data["output_splits"].toIntVector()),
            at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor all_to_all(const at::Tensor& input, const ProcessGroup& group,
                      std::vector<int64_t> output_splits, std::vector<int64_t> input_splits) {
  return PendingAllToAll(input, group, std::move(output_splits), std::move(input_splits)).wait();
}

PendingAllToAll::PendingAllToAll(const at::Tensor& input, const ProcessGroup& group,
                                 std::vector<int64_t> output_splits,
                                 std::vector<int64_t> input_splits) {
  output_ = group.size() == 1
                ? input
                : AllToAllFunction::apply(input, reinterpret_cast<int64_t>(&group), output_splits,
                                          input_splits, reinterpret_cast<int64_t>(&work_));
}

at::Tensor PendingAllToAll::wait() {
  if (work_) std::exchange(work_, nullptr)->wait();
  return std::move(output_);
}

}  // namespace megatron
