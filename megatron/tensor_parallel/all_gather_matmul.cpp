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
                                  const at::Tensor& bias, const ProcessGroup& tp, int64_t pieces) {
  const at::NoGradGuard no_grad;
  const int size = tp.size(), rank = tp.rank();
  const int64_t length = x.size(0), b = x.size(1);
  const at::Tensor local = x.detach().contiguous();
  const AllGatherMatmul result{
      .gathered = at::empty({length * size, b, x.size(2)}, local.options()),
      .output = at::empty({length * size, b, matrix.size(1)}, local.options())};
  pieces = std::max<int64_t>(1, std::min(pieces, length));
  // Rows of a shard before a piece.
  const auto start_of = [&](int64_t piece) { return length * piece / pieces; };
  const auto piece_of = [&](const at::Tensor& shards, int member, int64_t piece) {
    return shards.narrow(0, member * length + start_of(piece),
                         start_of(piece + 1) - start_of(piece));
  };
  const auto multiply = [&](int member, int64_t piece) {
    const at::Tensor output = piece_of(result.output, member, piece);
    matmul_out(output.view({-1, output.size(2)}),
               flatten_rows(piece_of(result.gathered, member, piece)), matrix, bias);
  };

  std::vector<std::shared_ptr<Work>> receives, sends;  // receives: by step, then by piece
  for (int step = 1; step < size; ++step) {
    const int to = (rank + step) % size, from = (rank - step + size) % size;
    const auto send = [&] {
      for (int64_t piece = 0; piece < pieces; ++piece)
        sends.push_back(tp.isend(piece_of(local, 0, piece), to, kAllGatherMatmulTag));
    };
    // NCCL connects a pair of ranks at its first message, and both ranks wait for that. All ranks
    // therefore go through the pairs in one order, and within a pair the lower rank sends first.
    const auto pair_with = [&](int member) { return std::minmax({rank, member}); };
    const bool receives_first = to == from ? rank > to : pair_with(from) < pair_with(to);
    if (!receives_first) send();
    for (int64_t piece = 0; piece < pieces; ++piece)
      receives.push_back(
          tp.irecv(piece_of(result.gathered, from, piece), from, kAllGatherMatmulTag));
    if (receives_first) send();
  }
  result.gathered.narrow(0, rank * length, length).copy_(local);
  for (int64_t piece = 0; piece < pieces; ++piece) multiply(rank, piece);
  for (int step = 1; step < size; ++step) {
    for (int64_t piece = 0; piece < pieces; ++piece) {
      receives[(step - 1) * pieces + piece]->wait();
      multiply((rank - step + size) % size, piece);
    }
  }
  for (const auto& message : sends) message->wait();
  return result;
}

}  // namespace megatron
