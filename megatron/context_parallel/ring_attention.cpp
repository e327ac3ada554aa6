#include "megatron/context_parallel/ring_attention.h"

#include <ATen/ATen.h>

#include "megatron/base/dtype.h"

namespace megatron {

namespace {

// Sends a tensor to the next rank and receives one of the same shape from the previous rank.
class RingTransfer {
 public:
  // `tensor` must not change before wait(). Neighbours start their transfers in opposite orders,
  // since NCCL executes the messages between two ranks in order.
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

  // Returns the previous rank's tensor.
  at::Tensor wait() {
    for (const auto& pending : pending_) pending->wait();
    return received_;
  }

 private:
  at::Tensor sent_, received_;
  std::vector<std::shared_ptr<Work>> pending_;
};

constexpr int kKeysTag = 0, kGradientsTag = 1;

// Calls visit(step, kv, positions) with the keys of every rank, the local ones first, while the
// next ones are being transferred.
template <typename Visit>
void for_each_rank_in_ring(const ContextParallelAttentionCall& call, at::Tensor kv,
                           const Visit& visit) {
  const ProcessGroup& cp = call.cp();
  for (int step = 0; step < cp.size(); ++step) {
    std::optional<RingTransfer> transfer;
    if (step + 1 < cp.size()) transfer.emplace(cp, kv, kKeysTag);
    visit(step, kv, call.positions((cp.rank() + cp.size() - step) % cp.size()));
    if (transfer) kv = transfer->wait();
  }
}

}  // namespace

AttentionBlockOutput ring_attention_forward(const ContextParallelAttentionCall& call,
                                            const ContextParallelAttentionInputs& inputs) {
  AttentionBlockOutput total;
  for_each_rank_in_ring(
      call, inputs.kv, [&](int step, const at::Tensor& kv, const at::Tensor& positions) {
        const ContextParallelAttentionInputs local = inputs.with_kv(kv);
        const AttentionBlockOutput output =
            attention_block(inputs.q, local.k(), local.v(),
                            call.block(positions, step == 0, inputs.softmax_offset, inputs.bias),
                            call.options().unfused);
        total = step == 0 ? output : merge_attention(total, output);
      });
  return total;
}

ContextParallelAttentionGradients ring_attention_backward(
    const ContextParallelAttentionCall& call, const ContextParallelAttentionInputs& inputs,
    const at::Tensor& out, const at::Tensor& lse, const at::Tensor& grad_out) {
  const at::ScalarType wide = accumulation_dtype(inputs.q.scalar_type());
  ContextParallelAttentionGradients total;
  if (inputs.bias.defined()) total.bias = at::zeros_like(inputs.bias);
  std::optional<RingTransfer> transfer;
  for_each_rank_in_ring(
      call, inputs.kv, [&](int step, const at::Tensor& kv, const at::Tensor& positions) {
        const ContextParallelAttentionInputs local = inputs.with_kv(kv);
        const AttentionBlockGradients gradients = attention_block_backward(
            inputs.q, local.k(), local.v(), out, lse, grad_out,
            call.block(positions, step == 0, inputs.softmax_offset, inputs.bias),
            call.options().unfused);
        at::Tensor grad_kv = at::cat({gradients.k, gradients.v}, /*dim=*/3).to(wide);
        if (step == 0) {
          total.q = gradients.q.to(wide);
          total.softmax_offset = gradients.softmax_offset;
        } else {
          total.q += gradients.q;
          grad_kv += transfer->wait();
        }
        if (total.bias.defined()) {
          total.bias.index_copy_(3, positions.to(gradients.bias.device()), gradients.bias);
        }
        transfer.emplace(call.cp(), grad_kv, kGradientsTag);
      });
  total.kv = transfer->wait();
  return total;
}

}  // namespace megatron
