#include "megatron/tensor_parallel/deferred_weight_gradients.h"

#include <utility>

#include <ATen/ATen.h>
#include <ATen/record_function.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/linear.h"

namespace megatron {
namespace {

// The whole input of an entry, on its way.
struct ArrivingInput {
  ArrivingInput(const at::Tensor& x, const ProcessGroup* group) : whole(x) {
    if (group == nullptr) return;
    std::vector<int64_t> shape = x.sizes().vec();
    shape[0] *= group->size();
    whole = at::empty(shape, x.options());
    pending = group->iall_gather(whole, x);
  }
  const at::Tensor& wait() {
    if (pending) std::exchange(pending, nullptr)->wait();
    return whole;
  }

  at::Tensor whole;
  std::shared_ptr<Work> pending;
};

}  // namespace

void DeferredWeightGradients::add(at::Tensor main_grad, at::Tensor grad_output, at::Tensor x,
                                  const ProcessGroup* gather) {
  entries_.push_back(
      {std::move(main_grad), std::move(grad_output), x.detach().contiguous(), gather});
}

void DeferredWeightGradients::compute() {
  if (entries_.empty()) return;
  RECORD_USER_SCOPE("deferred weight gradients");
  const at::NoGradGuard no_grad;
  std::vector<Entry> entries = std::exchange(entries_, {});
  ArrivingInput next(entries[0].x, entries[0].gather);
  for (size_t i = 0; i < entries.size(); ++i) {
    ArrivingInput current = std::move(next);
    const at::Tensor x = current.wait();
    if (i + 1 < entries.size()) next = ArrivingInput(entries[i + 1].x, entries[i + 1].gather);
    accumulate_weight_gradient(entries[i].main_grad, flatten_rows(entries[i].grad_output),
                               flatten_rows(x));
    entries[i] = {};
  }
}

}  // namespace megatron
