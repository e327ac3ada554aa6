// The grouped products of experts, next to a dense product of the same FLOPs and to the time that their
// operands take from memory. Every iteration measures all of them in random order. Counters: the least
// times over the iterations in ms, and `ratio`, that of the grouped product over the larger of the other
// two; and the same of medians. --threads=N sets the number of threads; with one, times are those of its
// processor, which other jobs lengthen less.
#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include "megatron/ops/core/parallel_for.h"
#include "megatron/ops/grouped/grouped_gemm.h"
#include "megatron/ops/matmul/matmul.h"
#include "megatron/ops/matmul/matmul_accumulate.h"

namespace megatron {
namespace {

enum class Product { forward, input_gradient, weight_gradient };

// Rows per expert: equal, or in proportion to 1 / rank (Zipf's law with exponent 1).
at::Tensor expert_counts(int64_t experts, int64_t rows, bool skewed) {
  std::vector<double> share(experts, 1);
  for (int64_t i = 0; skewed && i < experts; ++i) share[i] = 1.0 / static_cast<double>(i + 1);
  const double total = std::accumulate(share.begin(), share.end(), 0.0);
  std::vector<int64_t> counts(experts);
  double sum = 0;
  int64_t given = 0;
  for (int64_t i = 0; i < experts; ++i) {  // rounded so that they add up
    sum += share[i] / total * static_cast<double>(rows);
    counts[i] = (i + 1 == experts ? rows : std::llround(sum)) - given;
    given += counts[i];
  }
  return at::tensor(counts, at::TensorOptions(at::kLong));
}

// Wall-clock seconds, or with one thread those of its processor.
double now() {
  timespec time;
  clock_gettime(at::get_num_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double seconds(const std::function<void()>& body) {
  const double start = now();
  body();
  return now() - start;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Buffers larger than the caches, read or updated by all threads.
class MemoryBandwidth {
 public:
  // Bytes per second of reading.
  double read() {
    return rate(1, [&](int64_t first, int64_t last) {
      std::array<uint64_t, 8> sums{};
      for (int64_t i = first; i < last; i += 8) {
        for (int j = 0; j < 8; ++j) sums[j] += data_[i + j];
      }
      benchmark::DoNotOptimize(std::accumulate(sums.begin(), sums.end(), uint64_t{0}));
    });
  }
  // Bytes per second of reading and writing back, both counted.
  double update() {
    return rate(2, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) data_[i] += 1;
    });
  }

 private:
  double rate(int64_t directions, const std::function<void(int64_t, int64_t)>& body) {
    const double time = seconds([&] {
      parallel_for(0, size_ / 64, 1, [&](int64_t a, int64_t b) { body(a * 64, b * 64); });
    });
    return static_cast<double>(directions * size_) * sizeof(uint64_t) / time;
  }

  static constexpr int64_t size_ = 16 << 20;  // 128 MiB
  std::vector<uint64_t> data_ = std::vector<uint64_t>(size_);
};

MemoryBandwidth& memory_bandwidth() {
  static MemoryBandwidth bandwidth;
  return bandwidth;
}

struct Layer {
  Layer(int64_t experts, int64_t rows, int64_t k, int64_t n, at::ScalarType dtype, bool skewed)
      : counts(expert_counts(experts, rows, skewed)),
        x(at::randn({rows, k}).to(dtype)),
        grad_y(at::randn({rows, n}).to(dtype)),
        weight(at::randn({n, k}).to(dtype).expand({experts, n, k}).contiguous()) {}

  at::Tensor counts, x, grad_y, weight;
  at::Tensor main_grad;  // fp32, for the weight gradient

  void grouped(Product product) {
    switch (product) {
      case Product::forward:
        benchmark::DoNotOptimize(grouped_gemm(x, counts, weight, /*bias=*/{}));
        return;
      case Product::input_gradient:
        benchmark::DoNotOptimize(grouped_gemm_input_gradient(grad_y, counts, weight));
        return;
      case Product::weight_gradient:
        accumulate_grouped_weight_gradient(main_grad, grad_y, x, counts);
        return;
    }
  }

  // All rows times one expert's weight: this project's product or libtorch's.
  void dense(Product product, bool libtorch) {
    const at::Tensor matrix = weight[0];
    switch (product) {
      case Product::forward:
        benchmark::DoNotOptimize(libtorch ? at::mm(x, matrix.t()) : matmul(x, matrix.t(), {}));
        return;
      case Product::input_gradient:
        benchmark::DoNotOptimize(libtorch ? at::mm(grad_y, matrix) : matmul(grad_y, matrix, {}));
        return;
      case Product::weight_gradient: {
        at::Tensor sum = main_grad[0];
        if (libtorch && x.scalar_type() == sum.scalar_type()) {
          sum.addmm_(grad_y.t(), x);
        } else {
          matmul_accumulate(sum, grad_y.t(), x);
        }
        return;
      }
    }
  }

  // The operands once; the gradient of the weight is read and written.
  double streaming_seconds(Product product, double read, double update) const {
    const double rows = static_cast<double>(x.nbytes() + grad_y.nbytes());
    if (product != Product::weight_gradient) {
      return (rows + static_cast<double>(weight.nbytes())) / read;
    }
    return rows / read + 2 * static_cast<double>(main_grad.nbytes()) / update;
  }
};

void run_case(benchmark::State& state, Product product, at::ScalarType dtype, bool skewed) {
  const int64_t experts = state.range(0), rows = state.range(1), k = state.range(2),
                n = state.range(3);
  Layer layer(experts, rows, k, n, dtype, skewed);
  if (product == Product::weight_gradient) layer.main_grad = at::zeros({experts, n, k});
  layer.grouped(product);  // code generation, page faults
  for (const bool libtorch : {false, true}) layer.dense(product, libtorch);
  std::mt19937 generator(1);
  std::array<int, 4> order{0, 1, 2, 3};
  std::vector<double> grouped_times, dense_times, streaming_times;
  for (auto _ : state) {
    double grouped = 0, ours = 0, libtorch = 0, streaming = 0;
    std::shuffle(order.begin(), order.end(), generator);
    for (const int what : order) {
      if (what == 0) grouped = seconds([&] { layer.grouped(product); });
      if (what == 1) ours = seconds([&] { layer.dense(product, false); });
      if (what == 2) libtorch = seconds([&] { layer.dense(product, true); });
      if (what == 3) {
        const double read = memory_bandwidth().read(), update = memory_bandwidth().update();
        streaming = layer.streaming_seconds(product, read, update);
      }
    }
    const double dense = std::min(ours, libtorch);
    grouped_times.push_back(1e3 * grouped);
    dense_times.push_back(1e3 * dense);
    streaming_times.push_back(1e3 * streaming);
    state.SetIterationTime(grouped);
  }
  const auto report = [&](const std::string& suffix, const auto& statistic) {
    const double grouped = statistic(grouped_times), dense = statistic(dense_times),
                 streaming = statistic(streaming_times);
    state.counters["grouped" + suffix] = grouped;
    state.counters["dense" + suffix] = dense;
    state.counters["stream" + suffix] = streaming;
    state.counters["ratio" + suffix] = grouped / std::max(dense, streaming);
  };
  report("", [](const std::vector<double>& times) { return std::ranges::min(times); });
  report("_median", [](const std::vector<double>& times) { return median(times); });
}

void shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"experts", "tokens", "hidden", "ffn"});
  for (const int64_t experts : {8, 64}) {
    benchmark->Args({experts, 1024, 512, 1024})->Args({experts, 4096, 1024, 2816});
  }
  benchmark->Unit(benchmark::kMillisecond)->UseManualTime();
}
#define MEGATRON_GROUPED(product, dtype, name)                                           \
  BENCHMARK_CAPTURE(run_case, product / name / balanced, Product::product, dtype, false) \
      ->Apply(shapes);                                                                   \
  BENCHMARK_CAPTURE(run_case, product / name / zipf, Product::product, dtype, true)->Apply(shapes)
#define MEGATRON_GROUPED_DTYPES(product)          \
  MEGATRON_GROUPED(product, at::kBFloat16, bf16); \
  MEGATRON_GROUPED(product, at::kFloat, fp32)
MEGATRON_GROUPED_DTYPES(forward);
MEGATRON_GROUPED_DTYPES(input_gradient);
MEGATRON_GROUPED_DTYPES(weight_gradient);

}  // namespace
}  // namespace megatron
