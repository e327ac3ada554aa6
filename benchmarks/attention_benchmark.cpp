// Attention with n = 12 heads of d = 64: the fused kernels, unfused attention, which materializes
// the scores, and libtorch's flash attention; forward only (forward), and with backward (step).
// dtype: 0 is fp32, 1 is bf16. Queries, keys and values are views of one projection's output, as in
// a model. --threads=N sets the number of threads.
#include <cstdlib>

#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/ops/attention/attention.h"
#include "megatron/ops/attention/fused_attention.h"

namespace megatron {
namespace {

constexpr int64_t kHeads = 12, kHeadDim = 64;
constexpr double kScale = 0.125;

enum class Backend { kFused, kUnfused, kFlash };

struct Inputs {
  at::Tensor q, k, v;

  // Makes leaves that are views of one tensor [s, b, n + 2g, d].
  Inputs(int64_t s, int64_t b, int64_t g, int64_t dtype) {
    const at::Tensor mixed =
        at::randn({s, b, kHeads + 2 * g, kHeadDim}).to(dtype == 0 ? at::kFloat : at::kBFloat16);
    q = mixed.narrow(2, 0, kHeads).detach().requires_grad_();
    k = mixed.narrow(2, kHeads, g).detach().requires_grad_();
    v = mixed.narrow(2, kHeads + g, g).detach().requires_grad_();
  }
};

at::Tensor flash(const Inputs& in) {
  const auto rows = [](const at::Tensor& x) {
    const at::Tensor heads = x.repeat_interleave(kHeads / x.size(2), 2);
    return (x.size(2) == kHeads ? x : heads).permute({1, 2, 0, 3});
  };
  const at::Tensor out = std::get<0>(at::_scaled_dot_product_flash_attention_for_cpu(
      rows(in.q), rows(in.k), rows(in.v), /*dropout_p=*/0.0, /*is_causal=*/true, {}, kScale));
  return out.permute({2, 0, 1, 3}).reshape({in.q.size(0), in.q.size(1), kHeads * kHeadDim});
}

at::Tensor attention(Backend backend, const Inputs& in, const AttentionOptions& options) {
  switch (backend) {
    case Backend::kFused:
      return fused_attention(in.q, in.k, in.v, options);
    case Backend::kUnfused:
      return core_attention(in.q, in.k, in.v, options);
    case Backend::kFlash:
      return flash(in);
  }
  std::abort();
}

template <typename Body>
void measure(benchmark::State& state, bool backward, const Inputs& in, const Body& op) {
  const at::Tensor cotangent =
      at::randn({in.q.size(0), in.q.size(1), kHeads * kHeadDim}).to(in.q.scalar_type());
  const at::AutoGradMode mode(backward);
  for (auto _ : state) {
    const at::Tensor y = op();
    if (backward) {
      benchmark::DoNotOptimize(torch::autograd::grad({y}, {in.q, in.k, in.v}, {cotangent}));
    } else {
      benchmark::DoNotOptimize(y);
    }
  }
}

void causal(benchmark::State& state, Backend backend, bool backward) {
  const Inputs in(state.range(1), state.range(2), state.range(3), state.range(0));
  measure(state, backward, in, [&] { return attention(backend, in, {.scale = kScale}); });
}

#define MEGATRON_CAUSAL(backend, name)                               \
  BENCHMARK_CAPTURE(causal, name / forward, Backend::backend, false) \
      ->ArgNames({"dtype", "s", "b", "g"})                           \
      ->ArgsProduct({{0, 1}, {128, 512, 2048}, {2}, {12}})           \
      ->ArgsProduct({{0, 1}, {512}, {2}, {4}})                       \
      ->UseRealTime()                                                \
      ->Unit(benchmark::kMillisecond);                               \
  BENCHMARK_CAPTURE(causal, name / step, Backend::backend, true)     \
      ->ArgNames({"dtype", "s", "b", "g"})                           \
      ->ArgsProduct({{0, 1}, {128, 512, 1024, 2048}, {2}, {12}})     \
      ->ArgsProduct({{0, 1}, {512}, {4}, {12}})                      \
      ->ArgsProduct({{0, 1}, {512}, {2}, {4}})                       \
      ->UseRealTime()                                                \
      ->Unit(benchmark::kMillisecond)
MEGATRON_CAUSAL(kFused, fused);
MEGATRON_CAUSAL(kUnfused, unfused);
MEGATRON_CAUSAL(kFlash, libtorch_flash);

// Forward and backward with a sliding window of 256 keys.
void window(benchmark::State& state, Backend backend) {
  const Inputs in(state.range(1), 1, kHeads, state.range(0));
  const AttentionOptions options{.scale = kScale, .mask = {.window = AttentionWindow{255, 0}}};
  measure(state, /*backward=*/true, in, [&] { return attention(backend, in, options); });
}

#define MEGATRON_WINDOW(backend, name)              \
  BENCHMARK_CAPTURE(window, name, Backend::backend) \
      ->ArgNames({"dtype", "s"})                    \
      ->ArgsProduct({{0, 1}, {2048}})               \
      ->UseRealTime()                               \
      ->Unit(benchmark::kMillisecond)
MEGATRON_WINDOW(kFused, fused);
MEGATRON_WINDOW(kUnfused, unfused);

// Forward and backward of sequences of 64 to 1024 tokens, 2048 in total: packed, or padded to the
// longest.
const std::vector<int64_t> kLengths = {64, 96, 128, 160, 224, 352, 1024};

void variable_lengths(benchmark::State& state, bool packed) {
  std::vector<int64_t> starts = {0};
  for (const int64_t length : kLengths) starts.push_back(starts.back() + length);
  const Inputs in = packed ? Inputs(starts.back(), 1, kHeads, state.range(0))
                           : Inputs(kLengths.back(), kLengths.size(), kHeads, state.range(0));
  AttentionOptions options{.scale = kScale};
  if (packed) options.mask.cu_seqlens_q = at::tensor(starts, at::kLong);
  measure(state, /*backward=*/true, in, [&] { return fused_attention(in.q, in.k, in.v, options); });
}

#define MEGATRON_LENGTHS(name, packed)              \
  BENCHMARK_CAPTURE(variable_lengths, name, packed) \
      ->ArgNames({"dtype"})                         \
      ->Arg(0)                                      \
      ->Arg(1)                                      \
      ->UseRealTime()                               \
      ->Unit(benchmark::kMillisecond)
MEGATRON_LENGTHS(packed, true);
MEGATRON_LENGTHS(padded, false);

// Decoding: one token of each of 8 sequences against its cached keys.
void decode(benchmark::State& state, Backend backend) {
  const at::AutoGradMode mode(false);
  Inputs in(state.range(1), 8, state.range(2), state.range(0));
  in.q = in.q.narrow(0, 0, 1);
  const AttentionOptions options{.scale = kScale, .mask = {.query_offset = state.range(1) - 1}};
  measure(state, /*backward=*/false, in, [&] { return attention(backend, in, options); });
}

#define MEGATRON_DECODE(backend, name)              \
  BENCHMARK_CAPTURE(decode, name, Backend::backend) \
      ->ArgNames({"dtype", "sk", "g"})              \
      ->ArgsProduct({{0, 1}, {1024}, {4, 12}})      \
      ->UseRealTime()                               \
      ->Unit(benchmark::kMillisecond)
MEGATRON_DECODE(kFused, fused);
MEGATRON_DECODE(kUnfused, unfused);

}  // namespace
}  // namespace megatron
