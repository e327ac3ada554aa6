// The reduction loops. On the host they run in blocks that fit the L1 cache.
#include "megatron/parallel/thread_reduce.h"

#include <algorithm>
#include <array>

#include <ATen/ATen.h>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"

namespace megatron {
namespace {

struct Sum {
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<T>(a + b);
  }
};

struct Max {
  template <typename T>
  T operator()(T a, T b) const {
    return (a != a || a >= b) ? a : b;  // a NaN in b fails both comparisons
  }
};

struct Min {
  template <typename T>
  T operator()(T a, T b) const {
    return (a != a || a <= b) ? a : b;
  }
};

template <typename T, typename Accumulator, typename Combine>
void reduce_blocks(const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& outputs,
                   int64_t begin, int64_t end, Combine combine) {
  constexpr int64_t kBlock = 1024;
  std::array<Accumulator, kBlock> sum;
  std::vector<const T*> from;
  std::vector<T*> to;
  for (const auto& input : inputs) from.push_back(static_cast<const T*>(input.const_data_ptr()));
  for (const auto& output : outputs) to.push_back(static_cast<T*>(output.data_ptr()));
  for (int64_t start = begin; start < end; start += kBlock) {
    const int64_t count = std::min(kBlock, end - start);
    for (int64_t i = 0; i < count; ++i) sum[i] = static_cast<Accumulator>(from[0][start + i]);
    for (size_t rank = 1; rank < from.size(); ++rank) {
      const T* part = from[rank] + start;
      for (int64_t i = 0; i < count; ++i)
        sum[i] = combine(sum[i], static_cast<Accumulator>(part[i]));
    }
    for (T* output : to) {
      for (int64_t i = 0; i < count; ++i) output[start + i] = static_cast<T>(sum[i]);
    }
  }
}

template <typename Combine>
void reduce_host(const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& outputs,
                 int64_t begin, int64_t end, Combine combine) {
  switch (inputs[0].scalar_type()) {
    case at::kFloat:
      return reduce_blocks<float, float>(inputs, outputs, begin, end, combine);
    case at::kDouble:
      return reduce_blocks<double, double>(inputs, outputs, begin, end, combine);
    case at::kBFloat16:
      return reduce_blocks<at::BFloat16, float>(inputs, outputs, begin, end, combine);
    case at::kHalf:
      return reduce_blocks<at::Half, float>(inputs, outputs, begin, end, combine);
    case at::kLong:
      return reduce_blocks<int64_t, int64_t>(inputs, outputs, begin, end, combine);
    case at::kInt:
      return reduce_blocks<int32_t, int32_t>(inputs, outputs, begin, end, combine);
    case at::kByte:
      return reduce_blocks<uint8_t, uint8_t>(inputs, outputs, begin, end, combine);
    default:
      fail("Expected fp64, fp32, bf16, fp16, int64, int32 or uint8 to reduce, but got {}",
           at::toString(inputs[0].scalar_type()));
  }
}

// For rank threads that share a GPU: the same order and accumulation by tensor operators.
void reduce_device(const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& outputs,
                   c10d::ReduceOp::RedOpType op, int64_t begin, int64_t end) {
  const at::ScalarType dtype = inputs[0].scalar_type();
  const at::ScalarType wide = at::isFloatingType(dtype) ? accumulation_dtype(dtype) : dtype;
  const auto piece = [&](const at::Tensor& tensor) {
    return tensor.view({-1}).narrow(0, begin, end - begin);
  };
  at::Tensor total = piece(inputs[0]).to(wide, /*non_blocking=*/false, /*copy=*/true);
  for (size_t rank = 1; rank < inputs.size(); ++rank) {
    const at::Tensor input = piece(inputs[rank]).to(total.device(), wide);
    if (op == c10d::ReduceOp::SUM) {
      total.add_(input);
    } else {
      total = op == c10d::ReduceOp::MAX ? at::maximum(total, input) : at::minimum(total, input);
    }
  }
  for (const auto& output : outputs) piece(output).copy_(total);
}

}  // namespace

void reduce_in_rank_order(const std::vector<at::Tensor>& inputs,
                          const std::vector<at::Tensor>& outputs, c10d::ReduceOp::RedOpType op,
                          int64_t begin, int64_t end) {
  check(op == c10d::ReduceOp::SUM || op == c10d::ReduceOp::MAX || op == c10d::ReduceOp::MIN,
        "Expected a reduction of sum, max or min between rank threads, but got number {}",
        static_cast<int>(op));
  if (!inputs[0].is_cpu()) return reduce_device(inputs, outputs, op, begin, end);
  if (op == c10d::ReduceOp::SUM) return reduce_host(inputs, outputs, begin, end, Sum());
  if (op == c10d::ReduceOp::MAX) return reduce_host(inputs, outputs, begin, end, Max());
  reduce_host(inputs, outputs, begin, end, Min());
}

}  // namespace megatron
