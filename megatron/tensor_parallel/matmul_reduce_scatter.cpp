#include "megatron/tensor_parallel/matmul_reduce_scatter.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/matmul/matmul.h"

namespace megatron {

MatmulReduceScatter::MatmulReduceScatter(const at::Tensor& x, const at::Tensor& matrix,
                                         const ProcessGroup& tp, int64_t chunks) {
  const at::NoGradGuard no_grad;
  const int size = tp.size();
  check(x.size(0) % size == 0,
        "Expected a sequence divisible by the {} ranks of group {}, but got {}; {} works", size,
        tp.name(), x.size(0), (x.size(0) / size + 1) * size);
  const int64_t length = x.size(0) / size, b = x.size(1), width = matrix.size(1);
  const at::TensorOptions options = x.options().requires_grad(false);
  output_ = at::empty({length, b, width}, options);
  chunks = std::min(chunks, length);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t begin = length * chunk / chunks, rows = length * (chunk + 1) / chunks - begin;
    // This chunk of every rank's shard, in rank order.
    const at::Tensor partial = at::empty({rows * size, b, width}, options);
    for (int member = 0; member < size; ++member) {
      matmul_out(partial.narrow(0, member * rows, rows).view({-1, width}),
                 flatten_rows(x.narrow(0, member * length + begin, rows)), matrix, /*bias=*/{});
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
