// For every attention variant: packed sequences equal separate ones, and decoding with a cache
// equals the full forward pass.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/transformer/static_inference_context.h"

#include "tests/models/gpt/small_gpt.h"

namespace megatron {
namespace {

class AttentionVariants : public testing::TestWithParam<AttentionVariant> {
 protected:
  std::shared_ptr<GPTModel> model_ = build_gpt(attention_variant_config(GetParam()));
};

// Returns and resets the parameters' gradients.
std::vector<at::Tensor> take_gradients(const GPTModel& model) {
  std::vector<at::Tensor> gradients;
  for (const ParameterPtr& parameter : model.parameters()) {
    gradients.push_back(parameter->data.grad().clone());
    parameter->data.mutable_grad().reset();
  }
  return gradients;
}

TEST_P(AttentionVariants, PackedSequencesEqualSeparateOnes) {
  const std::vector<int64_t> offsets = {0, 3, 9, 13};
  const at::Tensor ids = (at::arange(13, at::kLong) * 17 % 61).unsqueeze(0);
  const auto positions = [](int64_t s) { return at::arange(s, at::kLong).unsqueeze(0); };
  const at::Tensor weights = at::arange(13 * 61, at::kFloat).sin().view({1, 13, 61});

  std::vector<at::Tensor> separate, restarted;
  at::Tensor objective = at::zeros({});
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const int64_t first = offsets[i], s = offsets[i + 1] - first;
    separate.push_back(
        model_->forward({.input_ids = ids.narrow(1, first, s), .position_ids = positions(s)},
                        evaluation_context(1, s)));
    restarted.push_back(positions(s));
    objective = objective + (separate.back() * weights.narrow(1, first, s)).sum();
  }
  objective.backward();
  const std::vector<at::Tensor> expected = take_gradients(*model_);

  const at::Tensor packed_logits = model_->forward(
      {.input_ids = ids,
       .position_ids = at::cat(restarted, 1),
       .packed_seq_params =
           PackedSeqParams{.cu_seqlens_q = at::tensor(offsets, at::kLong), .cu_seqlens_kv = {}}},
      evaluation_context(1, 13));
  EXPECT_LT((packed_logits - at::cat(separate, 1)).abs().max().item<double>(), 1e-5);
  (packed_logits * weights).sum().backward();
  const std::vector<at::Tensor> gradients = take_gradients(*model_);
  for (size_t i = 0; i < expected.size(); ++i) {
    const double scale = std::max(expected[i].abs().max().item<double>(), 1.0);
    EXPECT_LT((gradients[i] - expected[i]).abs().max().item<double>() / scale, 1e-5)
        << model_->parameters()[i]->name;
  }
}

TEST_P(AttentionVariants, CachedDecodingEqualsFullForward) {
  const at::NoGradGuard no_grad;
  constexpr int64_t kRows = 2, kTokens = 12, kPrompt = 5;
  const GPTModelInput full = token_input(kRows, kTokens, 61);
  const at::Tensor expected = model_->forward(full, evaluation_context(kRows, kTokens));

  StaticInferenceContext cache(kTokens);
  cache.materialize_only_last_token_logits = false;
  for (int64_t first = 0; first < kTokens;) {
    const int64_t s = first == 0 ? kPrompt : first == kPrompt ? 2 : 1;
    ForwardContext context = evaluation_context(kRows, kTokens);
    context.positions = context.residual_positions = at::arange(first, first + s, at::kLong);
    const at::Tensor logits =
        model_->forward({.input_ids = full.input_ids.narrow(1, first, s).contiguous(),
                         .position_ids = full.position_ids.narrow(1, first, s).contiguous(),
                         .inference_context = &cache,
                         .runtime_gather_output = true},
                        context);
    EXPECT_LT((logits - expected.narrow(1, first, s)).abs().max().item<double>(), 1e-5)
        << "tokens " << first << " to " << first + s;
    cache.advance(s);
    first += s;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, AttentionVariants, testing::ValuesIn(attention_variants()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace megatron
