#include "megatron/tensor_parallel/deferred_weight_gradients.h"

#include <utility>

#include <ATen/ATen.h>
#include <ATen/record_function.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/linear.h"

namespace megatron {
namespace {

// The input of an entry, with its all-gather in flight.
struct GatheredInput {
  GatheredInput(const at::Tensor& x, const ProcessGroup* group) : gathered(x) {
    if (group == nullptr) return;
    std::vector<int64_t> shape = x.sizes().vec();
    shape[0] *= group->size();
    gathered = at::empty(shape, x.options());
    all_gather = group->iall_gather(gathered, x);
  }
  const at::Tensor& wait() {
    if (all_gather) std::exchange(all_gather, nullptr)->wait();
    return gathered;
  }

  at::Tensor gathered;
  std::shared_ptr<Work> all_gather;
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
  GatheredInput next(entries[0].x, entries[0].gather);
  for (size_t i = 0; i < entries.size(); ++i) {
    GatheredInput current = std::move(next);
    const at::Tensor x = current.wait();
    if (i + 1 < entries.size()) next = GatheredInput(entries[i + 1].x, entries[i + 1].gather);
    accumulate_weight_gradient(entries[i].main_grad, flatten_rows(entries[i].grad_output),
                               flatten_rows(x));
    entries[i] = {};
  }
}

}  // namespace megatron
