#include "megatron/tensor_parallel/vocab_parallel_loss.h"

#include <algorithm>

#include <fmt/ranges.h>

namespace megatron {

void check_labels(const at::Tensor& targets, at::IntArrayRef shape, int64_t vocab_size) {
  check(targets.defined() && targets.sizes() == shape, "Expected targets of shape [{}], but got {}",
        fmt::join(shape, ", "),
        targets.defined() ? fmt::format("[{}]", fmt::join(targets.sizes(), ", ")) : "none");
  check(targets.scalar_type() == at::kLong, "Expected targets of dtype int64, but got {}",
        c10::toString(targets.scalar_type()));
  if (targets.numel() == 0) return;
  const auto [least_id, greatest_id] = at::aminmax(targets);
  const int64_t least = least_id.item<int64_t>(), greatest = greatest_id.item<int64_t>();
  check(least >= 0 && greatest < vocab_size, "Expected labels within [0, {}), but got {}",
        vocab_size, least < 0 ? least : greatest);
}

VocabularyBlock vocabulary_block(int64_t columns, int64_t vocab_size, const ProcessGroup& tp) {
  check(vocab_size >= 1 && vocab_size <= columns * tp.size(),
        "Expected a vocabulary of 1 to {} ids for {} columns on each of {} ranks, but got {}",
        columns * tp.size(), columns, tp.size(), vocab_size);
  const int64_t start = tp.rank() * columns;
  return {start, std::clamp<int64_t>(vocab_size - start, 0, columns)};
}

void reduce_statistics(CrossEntropyStatistics& statistics, const ProcessGroup& tp, bool packed) {
  if (tp.size() == 1) return;
  const at::Tensor local_max = statistics.row_max.clone();
  tp.all_reduce(statistics.row_max, ReduceOp::max);
  statistics.sum_exp().mul_((local_max - statistics.row_max).exp_());
  if (packed) {
    tp.all_reduce(statistics.sums);
  } else {
    for (const at::Tensor& sum : statistics.sums.unbind(0)) tp.all_reduce(sum);
  }
}

}  // namespace megatron
