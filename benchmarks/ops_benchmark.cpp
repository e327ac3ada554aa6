// The fused operators (ours) and the same computation with ATen operators (aten), at the shapes of
// GPT-2 124M (s 1024, b 1, h 768, v 50304). The argument is the dtype: 0 is fp32, 1 is bf16.
// --threads=N sets the number of threads.

#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include "megatron/ops/activation.h"
#include "megatron/ops/adam.h"
#include "megatron/ops/attention/attention.h"
#include "megatron/ops/attention/rope.h"
#include "megatron/ops/embedding.h"
#include "megatron/ops/loss/cross_entropy.h"
#include "megatron/ops/matmul/linear.h"
#include "megatron/ops/norm.h"
#include "megatron/ops/random/dropout.h"
#include "megatron/ops/random/random_weights.h"

namespace megatron {
namespace {

constexpr int64_t kSequence = 1024, kHidden = 768, kHeads = 12, kVocabulary = 50304;

at::ScalarType dtype_of(const benchmark::State& state) {
  return state.range(0) == 0 ? at::kFloat : at::kBFloat16;
}

at::Tensor input(at::IntArrayRef shape, at::ScalarType dtype, bool leaf = true) {
  const at::Tensor x = at::randn(shape).to(dtype);
  return leaf ? x.requires_grad_() : x;
}

DropoutIndex one_sample() {
  return {at::zeros({1}, at::kLong), at::arange(kSequence, at::kLong)};
}

// Times forward and backward of `op`, a function of `leaves`.
template <typename Body>
void forward_backward(benchmark::State& state, const std::vector<at::Tensor>& leaves,
                      const Body& op) {
  at::Tensor cotangent;
  for (auto _ : state) {
    const at::Tensor y = op();
    if (!cotangent.defined()) cotangent = at::randn(y.sizes()).to(y.scalar_type());
    benchmark::DoNotOptimize(torch::autograd::grad({y}, leaves, {cotangent}, std::nullopt, false,
                                                   /*allow_unused=*/true));
  }
}

// Registers `name/ours` and `name/aten`.
#define MEGATRON_COMPARE(name)        \
  BENCHMARK_CAPTURE(name, ours, true) \
      ->Arg(0)                        \
      ->Arg(1)                        \
      ->Unit(benchmark::kMillisecond) \
      ->UseRealTime();                \
  BENCHMARK_CAPTURE(name, aten, false)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond)->UseRealTime()

void gelu_tanh(benchmark::State& state, bool ours) {
  const auto dtype = dtype_of(state);
  const at::Tensor x = input({kSequence, 1, 4 * kHidden}, dtype),
                   bias = input({4 * kHidden}, dtype);
  forward_backward(state, {x, bias},
                   [&] { return ours ? bias_gelu(x, bias, true) : at::gelu(x + bias, "tanh"); });
}
MEGATRON_COMPARE(gelu_tanh);

void gelu_exact(benchmark::State& state, bool ours) {
  const auto dtype = dtype_of(state);
  const at::Tensor x = input({kSequence, 1, 4 * kHidden}, dtype),
                   bias = input({4 * kHidden}, dtype);
  forward_backward(state, {x, bias},
                   [&] { return ours ? bias_gelu(x, bias, false) : at::gelu(x + bias); });
}
MEGATRON_COMPARE(gelu_exact);

void swiglu(benchmark::State& state, bool ours) {
  const auto dtype = dtype_of(state);
  const at::Tensor x = input({kSequence, 1, 4 * kHidden}, dtype);
  forward_backward(state, {x}, [&] {
    if (ours) return bias_swiglu(x, {});
    const auto halves = x.chunk(2, -1);
    return at::silu(halves[0]) * halves[1];
  });
}
MEGATRON_COMPARE(swiglu);

void layer_norm_step(benchmark::State& state, bool ours) {
  const auto dtype = dtype_of(state);
  const at::Tensor x = input({kSequence, 1, kHidden}, dtype);
  const at::Tensor weight = input({kHidden}, dtype), bias = input({kHidden}, dtype);
  forward_backward(state, {x, weight, bias}, [&] {
    return ours ? layer_norm(x, weight, bias, 1e-5)
                : at::layer_norm(x, {kHidden}, weight, bias, 1e-5);
  });
}
MEGATRON_COMPARE(layer_norm_step);

void rms_norm_step(benchmark::State& state, bool ours) {
  const auto dtype = dtype_of(state);
  const at::Tensor x = input({kSequence, 1, kHidden}, dtype), weight = input({kHidden}, dtype);
  forward_backward(state, {x, weight}, [&] {
    return ours ? rms_norm(x, weight, 1e-5) : at::rms_norm(x, {kHidden}, weight, 1e-5);
  });
}
MEGATRON_COMPARE(rms_norm_step);

void rotary(benchmark::State& state, bool ours) {
  const auto dtype = dtype_of(state);
  const at::Tensor t = input({kSequence, 1, kHeads, 64}, dtype);
  const at::Tensor cos = at::randn({kSequence, 64}), sin = at::randn({kSequence, 64});
  forward_backward(state, {t}, [&] {
    return ours ? apply_rotary(t, cos, sin, false) : unfused::apply_rotary(t, cos, sin, false);
  });
}
MEGATRON_COMPARE(rotary);

void bias_dropout_add_step(benchmark::State& state, bool ours) {
  const auto dtype = dtype_of(state);
  const at::Tensor x = input({kSequence, 1, kHidden}, dtype), bias = input({kHidden}, dtype);
  const at::Tensor residual = input({kSequence, 1, kHidden}, dtype);
  const auto index = one_sample();
  forward_backward(state, {x, bias, residual}, [&] {
    return ours ? bias_dropout_add(x, bias, residual, 0.1, {1, 2, 3}, index)
                : residual + at::dropout(x + bias, 0.1, true);
  });
}
MEGATRON_COMPARE(bias_dropout_add_step);

void embedding_step(benchmark::State& state, bool ours) {
  const auto dtype = dtype_of(state);
  const at::Tensor weight = input({kVocabulary, kHidden}, dtype);
  const at::Tensor ids = at::randint(kVocabulary, {1, kSequence}, at::kLong);
  at::Tensor main_grad = at::zeros({kVocabulary, kHidden});
  forward_backward(state, {weight}, [&] {
    return ours ? embedding_lookup(weight, ids, 0, main_grad)
                : at::embedding(weight, ids).transpose(0, 1).contiguous();
  });
}
MEGATRON_COMPARE(embedding_step);

// Forward, input gradient, and the weight gradient accumulated into an fp32 buffer.
void linear_step(benchmark::State& state, bool ours) {
  const auto dtype = dtype_of(state);
  const at::Tensor x = input({kSequence, 1, kHidden}, dtype);
  const at::Tensor weight = input({4 * kHidden, kHidden}, dtype),
                   bias = input({4 * kHidden}, dtype);
  at::Tensor main_grad = at::zeros({4 * kHidden, kHidden});
  const at::Tensor cotangent = at::randn({kSequence, 1, 4 * kHidden}).to(dtype);
  for (auto _ : state) {
    const at::Tensor y = ours ? linear(x, weight, bias, main_grad) : at::linear(x, weight, bias);
    const auto gradients = torch::autograd::grad({y}, {x, weight, bias}, {cotangent}, std::nullopt,
                                                 false, /*allow_unused=*/true);
    if (!ours) main_grad.add_(gradients[1]);
  }
}
MEGATRON_COMPARE(linear_step);

void cross_entropy_step(benchmark::State& state, bool ours) {
  const auto dtype = dtype_of(state);
  const at::Tensor logits = input({kSequence, kVocabulary}, dtype);
  const at::Tensor targets = at::randint(kVocabulary, {kSequence}, at::kLong);
  const at::Tensor weights = at::ones({kSequence});
  for (auto _ : state) {
    if (ours) {
      const CrossEntropyParameters parameters{.vocab_size = kVocabulary};
      const VocabularyBlock block{0, kVocabulary};
      CrossEntropyStatistics statistics(kSequence, logits.options(), parameters);
      cross_entropy_accumulate(statistics, logits, block, targets, parameters);
      benchmark::DoNotOptimize(
          cross_entropy_grad(logits, block, statistics, targets, weights, parameters));
    } else {
      const at::Tensor loss =
          at::cross_entropy_loss(logits.to(at::kFloat), targets, {}, at::Reduction::None);
      benchmark::DoNotOptimize(torch::autograd::grad({loss}, {logits}, {weights}));
    }
  }
}
MEGATRON_COMPARE(cross_entropy_step);

void causal_attention_step(benchmark::State& state, bool ours) {
  const auto dtype = dtype_of(state);
  const at::Tensor q = input({kSequence, 1, kHeads, 64}, dtype);
  const at::Tensor k = input({kSequence, 1, kHeads, 64}, dtype);
  const at::Tensor v = input({kSequence, 1, kHeads, 64}, dtype);
  forward_backward(state, {q, k, v}, [&] {
    return ours ? causal_attention(q, k, v, 0.125)
                : reference::core_attention(q, k, v, {.scale = 0.125});
  });
}
MEGATRON_COMPARE(causal_attention_step);

// aten runs without dropout, because the reference draws its mask element by element.
void dropout_attention_step(benchmark::State& state, bool ours) {
  const auto dtype = dtype_of(state);
  const at::Tensor q = input({kSequence, 1, kHeads, 64}, dtype);
  const at::Tensor k = input({kSequence, 1, kHeads, 64}, dtype);
  const at::Tensor v = input({kSequence, 1, kHeads, 64}, dtype);
  const AttentionDropout dropout{.p = 0.1, .key = {1, 2, 3}, .queries = one_sample()};
  forward_backward(state, {q, k, v}, [&] {
    return ours ? core_attention(q, k, v, {.scale = 0.125, .dropout = dropout})
                : reference::core_attention(q, k, v, {.scale = 0.125});
  });
}
MEGATRON_COMPARE(dropout_attention_step);

// 16 million parameters with fp32 state; dtype is that of the model copy (fp32: no copy).
void adam(benchmark::State& state, bool ours) {
  const int64_t count = 16 << 20;
  const auto dtype = dtype_of(state);
  at::Tensor master = at::randn({count}), m = at::zeros({count}), v = at::zeros({count});
  const at::Tensor grad = at::randn({count});
  at::Tensor copy = dtype == at::kBFloat16 ? at::zeros({count}, dtype) : at::Tensor();
  std::vector<at::Tensor> steps{at::ones({})};
  for (auto _ : state) {
    if (ours) {
      adam_step(master, m, v, grad, copy, {.lr = 1e-4, .weight_decay = 0.1});
    } else {
      std::vector<at::Tensor> p{master}, g{grad}, ms{m}, vs{v};
      at::_fused_adamw_(p, g, ms, vs, {}, steps, 1e-4, 0.9, 0.999, 0.1, 1e-8, false, false);
      if (copy.defined()) copy.copy_(master);
    }
  }
}
MEGATRON_COMPARE(adam);

void gradient_norm(benchmark::State& state, bool ours) {
  const at::Tensor grad = at::randn({16 << 20}).to(dtype_of(state));
  for (auto _ : state) {
    if (ours) {
      benchmark::DoNotOptimize(squared_norm(grad));
    } else {
      benchmark::DoNotOptimize(at::linalg_vector_norm(grad).item<double>());
    }
  }
}
MEGATRON_COMPARE(gradient_norm);

void normal_weights(benchmark::State& state, bool ours) {
  at::Tensor weight = at::empty({8192, 2048}, dtype_of(state));
  for (auto _ : state) {
    if (ours) {
      fill_normal(weight, 0.02, 1, "weight", {8192, 2048}, {0, 0});
    } else {
      weight.normal_(0, 0.02);
    }
  }
}
MEGATRON_COMPARE(normal_weights);

}  // namespace
}  // namespace megatron
