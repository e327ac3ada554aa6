// apply_query_key_layer_scaling: scores are divided by the layer number before they are rounded to
// the dtype of the queries, and multiplied by it in the softmax.
#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/parallel/process_group_collection.h"
#include "megatron/transformer/core_attention.h"

namespace megatron {
namespace {

constexpr int64_t kTokens = 32, kHeads = 2, kDim = 8;

struct Attended {
  at::Tensor output, grad_q;
};

Attended attended(at::ScalarType dtype, AttentionBackend backend, bool scaling,
                  int64_t layer_number) {
  TransformerConfig config;
  config.num_layers = 4;
  config.hidden_size = kHeads * kDim;
  config.num_attention_heads = kHeads;
  config.attention_dropout = 0;
  config.attention_backend = backend;
  config.apply_query_key_layer_scaling = scaling;
  const LayerOptions options{.tensor = at::TensorOptions().dtype(dtype),
                             .tp = ProcessGroupCollection::single_rank().tp};
  const DotProductAttention attention(config, layer_number, options);
  const auto heads = [&](int64_t shift) {
    return (at::arange(kTokens * kHeads * kDim, at::kDouble).add(shift).pow(2).mul(0.37).sin() * 2)
        .view({kTokens, 1, kHeads, kDim})
        .to(dtype);
  };
  const at::Tensor q = heads(0).requires_grad_();
  const ForwardContext context =
      ForwardContext::make(/*training=*/false, 0, at::arange(1, at::kLong), kTokens, false, 0, 1);
  const at::Tensor output = attention.forward(q, heads(5), heads(11), {}, context);
  output.sum().backward();
  return {output.detach(), q.grad()};
}

// Megatron's chain of operators.
at::Tensor by_formula(at::ScalarType dtype, double layer_number) {
  const auto heads = [&](int64_t shift) {
    return (at::arange(kTokens * kHeads * kDim, at::kDouble).add(shift).pow(2).mul(0.37).sin() * 2)
        .view({kTokens, kHeads, kDim})
        .transpose(0, 1)
        .to(dtype);
  };
  const at::Tensor products = at::baddbmm(at::zeros({kHeads, kTokens, kTokens}, dtype), heads(0),
                                          heads(5).transpose(1, 2), /*beta=*/0,
                                          /*alpha=*/1 / (std::sqrt(double(kDim)) * layer_number));
  at::Tensor scores = products.to(at::kFloat) * layer_number;
  const at::Tensor ahead = at::ones({kTokens, kTokens}, at::kBool).triu(1);
  const at::Tensor probs = scores.masked_fill(ahead, -10000.0).softmax(-1).to(dtype);
  return at::bmm(probs, heads(11)).transpose(0, 1).reshape({kTokens, 1, kHeads * kDim});
}

TEST(QueryKeyLayerScaling, RoundsScaledScores) {
  const at::Tensor scaled = attended(at::kBFloat16, AttentionBackend::unfused, true, 3).output;
  EXPECT_TRUE(at::equal(scaled, by_formula(at::kBFloat16, 3)));
  EXPECT_FALSE(
      at::equal(scaled, attended(at::kBFloat16, AttentionBackend::unfused, false, 3).output));
}

TEST(QueryKeyLayerScaling, CancelsInExactArithmetic) {
  for (const auto backend : {AttentionBackend::unfused, AttentionBackend::fused}) {
    for (const int64_t layer_number : {1, 3}) {
      const Attended scaled = attended(at::kDouble, backend, true, layer_number);
      const Attended plain = attended(at::kDouble, backend, false, layer_number);
      EXPECT_LT((scaled.output - plain.output).abs().max().item<double>(), 1e-14);
      EXPECT_LT((scaled.grad_q - plain.grad_q).abs().max().item<double>(), 1e-13);
    }
  }
}

}  // namespace
}  // namespace megatron
