// Output layer and cross-entropy, forward and backward, with the weight gradient accumulated into
// an fp32 buffer: unfused, with the fused loss, and with the chunked loss, which never holds all
// logits. Arguments: tokens, vocabulary, hidden size, bf16 (0 is fp32), columns per chunk (0 is the
// default). `peak_MiB` is the peak memory of tensors allocated during a step, without inputs and
// the weight gradient.

#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/ops/matmul/linear.h"
#include "megatron/parallel/process_group_collection.h"
#include "megatron/tensor_parallel/vocab_parallel_cross_entropy.h"
#include "megatron/tensor_parallel/vocab_parallel_linear_cross_entropy.h"

#include "tests/ops/peak_memory.h"

namespace megatron {
namespace {

enum class Variant { unfused, fused, chunked };

void output_and_loss(benchmark::State& state, Variant variant) {
  const int64_t tokens = state.range(0), vocabulary = state.range(1), h = state.range(2);
  const auto dtype = state.range(3) == 0 ? at::kFloat : at::kBFloat16;
  const auto groups = ProcessGroupCollection::single_rank();
  const at::Tensor hidden = at::randn({tokens, 1, h}).to(dtype).requires_grad_();
  const auto weight = std::make_shared<Parameter>(
      std::vector<int64_t>{vocabulary, h}, at::TensorOptions().dtype(dtype),
      TensorParallelSharding{}, Initialization::constant(0));
  {
    const at::NoGradGuard no_grad;
    weight->data.normal_(0, 0.02);
  }
  weight->main_grad = at::zeros({vocabulary, h});
  const at::Tensor targets = at::randint(vocabulary, {tokens, 1}, at::kLong);
  const at::Tensor grad_loss = at::ones({tokens, 1});
  const auto step = [&] {
    at::Tensor loss;
    if (variant == Variant::chunked) {
      loss = vocab_parallel_linear_cross_entropy(hidden, weight, targets, vocabulary, *groups.tp,
                                                 {.chunk_columns = state.range(4)});
    } else {
      const auto function = variant == Variant::unfused ? vocab_parallel_cross_entropy
                                                        : fused_vocab_parallel_cross_entropy;
      loss = function(linear(hidden, weight->data, {}, weight->main_grad), targets, vocabulary,
                      *groups.tp, 0.0);
    }
    benchmark::DoNotOptimize(torch::autograd::grad({loss}, {hidden, weight->data}, {grad_loss},
                                                   std::nullopt, false, /*allow_unused=*/true));
  };
  state.counters["peak_MiB"] = static_cast<double>(test::peak_bytes(step)) / (1 << 20);
  for (auto _ : state) step();
}

void shapes(benchmark::internal::Benchmark* benchmark) {
  for (const int64_t dtype : {0, 1}) {
    benchmark->Args({1024, 50304, 768, dtype, 0});
    benchmark->Args({4096, 131072, 512, dtype, 0});
  }
  benchmark->ArgNames({"tokens", "vocabulary", "hidden", "bf16", "chunk"})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}
BENCHMARK_CAPTURE(output_and_loss, unfused, Variant::unfused)->Apply(shapes);
BENCHMARK_CAPTURE(output_and_loss, fused, Variant::fused)->Apply(shapes);
BENCHMARK_CAPTURE(output_and_loss, chunked, Variant::chunked)->Apply(shapes);
// The measurement behind the default chunk size.
BENCHMARK_CAPTURE(output_and_loss, chunk_size, Variant::chunked)
    ->ArgNames({"tokens", "vocabulary", "hidden", "bf16", "chunk"})
    ->ArgsProduct({{1024}, {50304}, {768}, {0, 1}, {1024, 2048, 4096, 8192, 16384}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace megatron
