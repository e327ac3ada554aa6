// The fused layers (fused) and the same layers of separate operators (local): norm + linear, and the
// MLP with its norm. Forward and backward, weight gradients accumulated into fp32 buffers, at the
// shapes of GPT-2 124M (h 768, f 3072) and of the tiny model (h 256, f 1024). Arguments: rows, h,
// dtype (0: fp32, 1: bf16). `peak_MiB` and `kept_MiB` count the tensors that an iteration allocates:
// at most, and between forward and backward. --threads=N sets the number of threads.

#include <chrono>
#include <memory>

#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/ops/activation.h"
#include "megatron/ops/matmul/linear.h"
#include "megatron/ops/norm.h"
#include "megatron/ops/norm_linear.h"
#include "megatron/tensor_parallel/fused_mlp.h"

namespace megatron {
namespace {

struct AllocationCounter final : c10::MemoryReportingInfoBase {
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
    current += size;
    peak = std::max(peak, current);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t current = 0, peak = 0;
};

struct LayerSetting {
  explicit LayerSetting(const benchmark::State& state)
      : rows(state.range(0)),
        h(state.range(1)),
        dtype(state.range(2) == 0 ? at::kFloat : at::kBFloat16) {}
  ParameterPtr parameter(std::vector<int64_t> shape) const {
    auto parameter = std::make_shared<Parameter>(
        shape, at::TensorOptions(dtype), TensorParallelSharding{}, Initialization::constant(0));
    const at::NoGradGuard no_grad;
    parameter->data.copy_(at::randn(shape) * 0.05);
    if (shape.size() == 2) parameter->main_grad = at::zeros(shape);
    return parameter;
  }
  at::Tensor input() const { return at::randn({rows, 1, h}).to(dtype).requires_grad_(); }

  int64_t rows, h;
  at::ScalarType dtype;
};

// Times forward and backward of `layer`, a function of x.
template <typename Layer>
void forward_backward(benchmark::State& state, const at::Tensor& x, const Layer& layer) {
  const at::Tensor cotangent = at::randn(layer(x).sizes()).to(x.scalar_type());
  {
    const auto counter = std::make_shared<AllocationCounter>();
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, counter);
    at::Tensor y = layer(x);
    state.counters["kept_MiB"] = static_cast<double>(counter->current) / (1 << 20);
    torch::autograd::backward({y}, {cotangent});
    state.counters["peak_MiB"] = static_cast<double>(counter->peak) / (1 << 20);
  }
  for (auto _ : state) torch::autograd::backward({layer(x)}, {cotangent});
}

void norm_linear_layer(benchmark::State& state, bool fused) {
  const LayerSetting setting(state);
  const at::Tensor x = setting.input();
  const ParameterPtr gamma = setting.parameter({setting.h}), beta = setting.parameter({setting.h});
  const ParameterPtr weight = setting.parameter({3 * setting.h, setting.h});
  const ParameterPtr bias = setting.parameter({3 * setting.h});
  forward_backward(state, x, [&](const at::Tensor& input) {
    if (fused) {
      return norm_linear(input, gamma->data, beta->data, weight->data, bias->data,
                         weight->main_grad, {});
    }
    return linear(layer_norm(input, gamma->data, beta->data, 1e-5), weight->data, bias->data,
                  weight->main_grad);
  });
}

void mlp_layer(benchmark::State& state, bool gated, bool fused) {
  const LayerSetting setting(state);
  const int64_t f = gated ? setting.h * 8 / 3 : 4 * setting.h;
  const at::Tensor x = setting.input();
  const ParameterPtr gamma = setting.parameter({setting.h}), beta = setting.parameter({setting.h});
  const FusedMlpParameters parameters{
      .norm_weight = gamma,
      .norm_bias = beta,
      .fc1_weight = setting.parameter({gated ? 2 * f : f, setting.h}),
      .fc1_bias = gated ? nullptr : setting.parameter({f}),
      .fc2_weight = setting.parameter({setting.h, f})};
  const ProcessGroup one("tp", {0}, 0, nullptr, std::chrono::seconds(1));
  const ActivationOptions activation{
      gated ? kernels::Activation::silu : kernels::Activation::gelu,
      gated ? std::optional<GluOptions>(GluOptions{}) : std::nullopt};
  forward_backward(state, x, [&](const at::Tensor& input) {
    if (fused) return fused_mlp(input, parameters, {.activation = activation, .tp = &one});
    const at::Tensor hidden =
        linear(layer_norm(input, gamma->data, beta->data, 1e-5), parameters.fc1_weight->data, {},
               parameters.fc1_weight->main_grad);
    const at::Tensor bias = gated ? at::Tensor() : parameters.fc1_bias->data;
    return linear(bias_activation(hidden, bias, activation), parameters.fc2_weight->data, {},
                  parameters.fc2_weight->main_grad);
  });
}

void shapes(benchmark::internal::Benchmark* benchmark) {
  for (const int64_t dtype : {0, 1}) {
    benchmark->Args({512, 256, dtype})->Args({1024, 768, dtype})->Args({4096, 768, dtype});
  }
  benchmark->Unit(benchmark::kMillisecond)->UseRealTime();
}

BENCHMARK_CAPTURE(norm_linear_layer, local, false)->Apply(shapes);
BENCHMARK_CAPTURE(norm_linear_layer, fused, true)->Apply(shapes);
BENCHMARK_CAPTURE(mlp_layer, local, false, false)->Apply(shapes);
BENCHMARK_CAPTURE(mlp_layer, fused, false, true)->Apply(shapes);
BENCHMARK_CAPTURE(mlp_layer, swiglu_local, true, false)->Apply(shapes);
BENCHMARK_CAPTURE(mlp_layer, swiglu_fused, true, true)->Apply(shapes);

}  // namespace
}  // namespace megatron
