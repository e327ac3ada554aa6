#include "megatron/tensor_parallel/all_gather_matmul.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/matmul.h"

namespace megatron {
namespace {

constexpr int kPieceTag = 101;

// rows [s, b, in] matrix (+ bias) -> into `output` [s, b, out], contiguous.
void multiply_into(const at::Tensor& output, const at::Tensor& rows, const at::Tensor& matrix,
                   const at::Tensor& bias) {
  matmul_out(output.view({-1, output.size(-1)}), flatten_rows(rows), matrix, bias);
}

at::Tensor empty_sequence(const at::Tensor& like, int64_t length, int64_t width) {
  return at::empty({length, like.size(1), width}, like.options().requires_grad(false));
}

}  // namespace

AllGatherMatmul all_gather_matmul(const at::Tensor& x, const at::Tensor& matrix,
                                 const at::Tensor& bias, const ProcessGroup& tp) {
  const at::NoGradGuard no_grad;
  const int size = tp.size(), rank = tp.rank();
  const int64_t part = x.size(0);
  const at::Tensor own = x.detach().contiguous();
  const AllGatherMatmul result{.whole = empty_sequence(x, part * size, x.size(2)),
                               .output = empty_sequence(x, part * size, matrix.size(1))};
  const auto input_of = [&](int member) { return result.whole.narrow(0, member * part, part); };
  const auto multiply = [&](int member) {
    multiply_into(result.output.narrow(0, member * part, part), input_of(member), matrix, bias);
  };

  std::vector<std::shared_ptr<Work>> arriving, leaving;
  for (int step = 1; step < size; ++step) {
    const int to = (rank + step) % size, from = (rank - step + size) % size;
    const auto send = [&] { leaving.push_back(tp.isend(own, to, kPieceTag)); };
    // NCCL's pairs connect at their first message and wait for each other: all ranks take pairs in
    // one order, and the two messages of one pair in the order of the ranks.
    const auto pair_with = [&](int member) { return std::minmax({rank, member}); };
    const bool receives_first = to == from ? rank > to : pair_with(from) < pair_with(to);
    if (!receives_first) send();
    arriving.push_back(tp.irecv(input_of(from), from, kPieceTag));
    if (receives_first) send();
  }
  input_of(rank).copy_(own);
  multiply(rank);
  for (int step = 1; step < size; ++step) {
    arriving[step - 1]->wait();
    multiply((rank - step + size) % size);
  }
  for (const auto& message : leaving) message->wait();
  return result;
}

MatmulReduceScatter::MatmulReduceScatter(const at::Tensor& x, const at::Tensor& matrix,
                                   const ProcessGroup& tp) {
  const at::NoGradGuard no_grad;
  const int size = tp.size();
  check(x.size(0) % size == 0,
        "Expected a sequence divisible by the {} ranks of group {}, but got {}; {} works", size,
        tp.name(), x.size(0), (x.size(0) / size + 1) * size);
  const int64_t part = x.size(0) / size, width = matrix.size(1);
  output_ = empty_sequence(x, part, width);
  const int64_t pieces = std::min(kReduceScatterChunks, part);
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t begin = part * piece / pieces, rows = part * (piece + 1) / pieces - begin;
    // The rows of this piece for every rank, in rank order.
    const at::Tensor partial = empty_sequence(x, rows * size, width);
    for (int member = 0; member < size; ++member) {
      multiply_into(partial.narrow(0, member * rows, rows),
                    x.narrow(0, member * part + begin, rows), matrix, /*bias=*/{});
    }
    reductions_.push_back(tp.ireduce_scatter(output_.narrow(0, begin, rows), partial));
  }
}

at::Tensor MatmulReduceScatter::wait() {
  for (const auto& reduction : reductions_) reduction->wait();
  reductions_.clear();
  return output_;
}

}  // namespace megatron
