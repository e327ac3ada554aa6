// The three bf16 matrix products of a linear layer, ours and libtorch's (aten). --threads=N sets
// the number of threads.

#include <ATen/ATen.h>
#include <benchmark/benchmark.h>

#include "megatron/ops/matmul/matmul.h"
#include "megatron/ops/matmul/matmul_accumulate.h"

namespace megatron {
namespace {

struct Layer {
  explicit Layer(const benchmark::State& state)
      : tokens(state.range(0)), out(state.range(1)), in(state.range(2)) {}
  int64_t tokens, out, in;
  at::Tensor x = matrix(tokens, in), weight = matrix(out, in), bias = matrix(1, out).view({out});
  at::Tensor grad_output = matrix(tokens, out);

  static at::Tensor matrix(int64_t rows, int64_t columns) {
    return at::randn({rows, columns}).to(at::kBFloat16);
  }
  void report_rate(benchmark::State& state) const {
    state.counters["GFLOP/s"] = benchmark::Counter(2e-9 * static_cast<double>(tokens * out * in),
                                                   benchmark::Counter::kIsIterationInvariantRate);
  }
};

void forward(benchmark::State& state, bool ours) {
  const Layer layer(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(ours ? matmul(layer.x, layer.weight.t(), layer.bias)
                                  : at::linear(layer.x, layer.weight, layer.bias));
  }
  layer.report_rate(state);
}

void input_gradient(benchmark::State& state, bool ours) {
  const Layer layer(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(ours ? matmul(layer.grad_output, layer.weight, /*bias=*/{})
                                  : at::mm(layer.grad_output, layer.weight));
  }
  layer.report_rate(state);
}

// Accumulates into an fp32 buffer. Ours sums in fp32; libtorch's product is rounded to bf16 first.
void weight_gradient(benchmark::State& state, bool ours) {
  const Layer layer(state);
  at::Tensor main_grad = at::zeros({layer.out, layer.in});
  for (auto _ : state) {
    if (ours) {
      matmul_accumulate(main_grad, layer.grad_output.t(), layer.x);
    } else {
      main_grad.add_(at::mm(layer.grad_output.t(), layer.x));
    }
  }
  layer.report_rate(state);
}

void shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"tokens", "out", "in"});
  benchmark->Args({1024, 2304, 768})->Args({1024, 768, 768})->Args({1024, 3072, 768});
  benchmark->Args({1024, 768, 3072})->Args({1024, 50304, 768})->Args({4096, 4096, 512});
  benchmark->Args({512, 1024, 256})->Args({512, 256, 1024})->Args({128, 768, 768});
  benchmark->Args({64, 768, 768})->Args({64, 256, 256})->Args({32, 768, 768})->Args({16, 768, 768});
  benchmark->Unit(benchmark::kMillisecond)->UseRealTime();
}
#define MEGATRON_COMPARE_MATMULS(name)                \
  BENCHMARK_CAPTURE(name, ours, true)->Apply(shapes); \
  BENCHMARK_CAPTURE(name, aten, false)->Apply(shapes)
MEGATRON_COMPARE_MATMULS(forward);
MEGATRON_COMPARE_MATMULS(input_gradient);
MEGATRON_COMPARE_MATMULS(weight_gradient);

}  // namespace
}  // namespace megatron
