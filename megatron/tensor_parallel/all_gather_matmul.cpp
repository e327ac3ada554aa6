#include "megatron/tensor_parallel/all_gather_matmul.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/matmul.h"

namespace megatron {
namespace {

constexpr int kAllGatherMatmulTag = 101;

}  // namespace

AllGatherMatmul all_gather_matmul(const at::Tensor& x, const at::Tensor& matrix,
                                  const at::Tensor& bias, const ProcessGroup& tp) {
  const at::NoGradGuard no_grad;
  const int size = tp.size(), rank = tp.rank();
  const int64_t length = x.size(0), b = x.size(1);
  const at::Tensor local = x.detach().contiguous();
  const AllGatherMatmul result{
      .gathered = at::empty({length * size, b, x.size(2)}, local.options()),
      .output = at::empty({length * size, b, matrix.size(1)}, local.options())};
  const auto input_of = [&](int member) {
    return result.gathered.narrow(0, member * length, length);
  };
  const auto multiply = [&](int member) {
    const at::Tensor output = result.output.narrow(0, member * length, length);
    matmul_out(output.view({-1, output.size(2)}), flatten_rows(input_of(member)), matrix, bias);
  };

  std::vector<std::shared_ptr<Work>> receives, sends;
  for (int step = 1; step < size; ++step) {
    const int to = (rank + step) % size, from = (rank - step + size) % size;
    const auto send = [&] { sends.push_back(tp.isend(local, to, kAllGatherMatmulTag)); };
    // NCCL connects a pair of ranks at its first message, and both ranks wait for that. All ranks
    // therefore go through the pairs in one order, and within a pair the lower rank sends first.
    const auto pair_with = [&](int member) { return std::minmax({rank, member}); };
    const bool receives_first = to == from ? rank > to : pair_with(from) < pair_with(to);
    if (!receives_first) send();
    receives.push_back(tp.irecv(input_of(from), from, kAllGatherMatmulTag));
    if (receives_first) send();
  }
  input_of(rank).copy_(local);
  multiply(rank);
  for (int step = 1; step < size; ++step) {
    receives[step - 1]->wait();
    multiply((rank - step + size) % size);
  }
  for (const auto& message : sends) message->wait();
  return result;
}

}  // namespace megatron
