#include "megatron/context_parallel/ring_attention.h"

#include <ATen/ATen.h>

#include "megatron/base/dtype.h"

namespace megatron {

namespace {

// A tensor on its way to the next rank, and the previous rank's on its way here.
class RingTransfer {
 public:
  // `tensor` must stay as it is until wait(). Neighbours start in opposite orders, as a transport
  // whose messages queue between two ranks needs it (NCCL).
  RingTransfer(const ProcessGroup& cp, const at::Tensor& tensor, int tag)
      : sent_(tensor.contiguous()), received_(at::empty_like(sent_)) {
    const int next = (cp.rank() + 1) % cp.size(),
              previous = (cp.rank() + cp.size() - 1) % cp.size();
    if (cp.rank() % 2 == 0) {
      pending_ = {cp.isend(sent_, next, tag), cp.irecv(received_, previous, tag)};
    } else {
      pending_ = {cp.irecv(received_, previous, tag), cp.isend(sent_, next, tag)};
    }
  }

  // What the previous rank sent.
  at::Tensor wait() {
    for (const auto& pending : pending_) pending->wait();
    return received_;
  }

 private:
  at::Tensor sent_, received_;
  std::vector<std::shared_ptr<Work>> pending_;
};

constexpr int kKeysTag = 0, kGradientsTag = 1;

// Calls visit(step, kv, positions) with the keys of every rank, this one's first, while the next
// ones are under way.
template <typename Visit>
void around_the_ring(const SplitAttentionCall& call, at::Tensor kv, const Visit& visit) {
  const ProcessGroup& cp = call.cp();
  for (int step = 0; step < cp.size(); ++step) {
    std::optional<RingTransfer> transfer;
    if (step + 1 < cp.size()) transfer.emplace(cp, kv, kKeysTag);
    visit(step, kv, call.positions((cp.rank() + cp.size() - step) % cp.size()));
    if (transfer) kv = transfer->wait();
  }
}

}  // namespace

AttentionBlockOutput ring_attention_forward(const SplitAttentionCall& call,
                                            const SplitAttentionInputs& inputs) {
  AttentionBlockOutput total;
  around_the_ring(call, inputs.kv, [&](int step, const at::Tensor& kv, const at::Tensor& places) {
    const SplitAttentionInputs here = inputs.with(kv);
    const AttentionBlockOutput part =
        attention_block(inputs.q, here.k(), here.v(),
                        call.block(places, step == 0, inputs.softmax_offset, inputs.bias));
    total = step == 0 ? part : merged(total, part);
  });
  return total;
}

SplitAttentionGradients ring_attention_backward(const SplitAttentionCall& call,
                                                const SplitAttentionInputs& inputs,
                                                const at::Tensor& out, const at::Tensor& lse,
                                                const at::Tensor& grad_out) {
  const at::ScalarType wide = accumulation_dtype(inputs.q.scalar_type());
  SplitAttentionGradients total;
  if (inputs.bias.defined()) total.bias = at::zeros_like(inputs.bias);
  std::optional<RingTransfer> gradients;
  around_the_ring(call, inputs.kv, [&](int step, const at::Tensor& kv, const at::Tensor& places) {
    const SplitAttentionInputs here = inputs.with(kv);
    const AttentionBlockGradients part =
        attention_block_backward(inputs.q, here.k(), here.v(), out, lse, grad_out,
                                 call.block(places, step == 0, inputs.softmax_offset, inputs.bias));
    at::Tensor grad_kv = at::cat({part.k, part.v}, /*dim=*/3).to(wide);
    if (step == 0) {
      total.q = part.q.to(wide);
      total.softmax_offset = part.softmax_offset;
    } else {
      total.q += part.q;
      grad_kv += gradients->wait();
    }
    if (total.bias.defined()) total.bias.index_copy_(3, places.to(part.bias.device()), part.bias);
    gradients.emplace(call.cp(), grad_kv, kGradientsTag);
  });
  total.kv = gradients->wait();
  return total;
}

}  // namespace megatron
