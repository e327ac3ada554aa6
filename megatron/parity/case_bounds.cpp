#include "megatron/parity/case_bounds.h"

#include <fmt/format.h>

namespace megatron {
namespace {

// bf16 has 8 significant bits: a product is off by up to 1/256, and logits reach 10.
const std::map<ParityKind, double> kBf16Bounds = {
    {ParityKind::logits, 0.15},        {ParityKind::per_token_loss, 0.15},
    {ParityKind::mean_loss, 5e-3},     {ParityKind::mtp_loss, 2e-2},
    {ParityKind::gradient, 1e-2},      {ParityKind::gradient_norm_of_difference, 4e-2},
    {ParityKind::step_loss, 2e-2},     {ParityKind::step_grad_norm, 5e-3},
    {ParityKind::weight_after3, 4e-2}, {ParityKind::buffer, 4e-3},
    {ParityKind::router_probs, 4e-2},  {ParityKind::router_map, 4e-2},
    {ParityKind::moe_loss, 2e-2}};

// fp16 has 11 significant bits, eight times as fine as bf16.
const std::map<ParityKind, double> kFp16Bounds = {
    {ParityKind::logits, 2e-2},        {ParityKind::per_token_loss, 2e-2},
    {ParityKind::mean_loss, 1e-3},     {ParityKind::mtp_loss, 3e-3},
    {ParityKind::gradient, 2e-3},      {ParityKind::gradient_norm_of_difference, 5e-3},
    {ParityKind::step_loss, 3e-3},     {ParityKind::step_grad_norm, 1e-3},
    {ParityKind::weight_after3, 5e-3}, {ParityKind::buffer, 1e-3},
    {ParityKind::router_probs, 5e-3},  {ParityKind::router_map, 5e-3},
    {ParityKind::moe_loss, 3e-3}};

// The gradient of a logit is at most 1, and bf16 rounds it by up to 1/512 of itself.
const std::map<ParityKind, double> kBf16LogitGradientBounds = {
    {ParityKind::gradient, 1e-3},       {ParityKind::gradient_norm_of_difference, 4e-3},
    {ParityKind::step_loss, 5e-4},      {ParityKind::mtp_loss, 5e-4},
    {ParityKind::step_grad_norm, 1e-3}, {ParityKind::weight_after3, 1e-2}};

// Adding a constant to all scores of a query does not change its softmax, so the gradient of the
// keys' bias is zero in exact arithmetic, where nothing behind the bias depends on the position or
// normalizes the keys.
bool has_key_bias_without_gradient(const GPTModelConfig& model) {
  const TransformerConfig& transformer = model.transformer;
  const bool rotates = model.position_embedding_type != PositionEmbeddingType::learned_absolute &&
                       model.position_embedding_type != PositionEmbeddingType::none;
  return (transformer.add_bias_linear || transformer.add_qkv_bias) && !rotates &&
         !transformer.qk_layernorm;
}

}  // namespace

std::vector<BoundException> bound_exceptions(at::ScalarType case_dtype, const Options& options) {
  std::vector<BoundException> exceptions;
  const TransformerConfig& transformer = options.model.transformer;
  const at::ScalarType dtype = transformer.compute_dtype();
  if (dtype == at::kBFloat16 || case_dtype == at::kBFloat16) {
    exceptions.push_back({dtype == case_dtype ? "both programs round to bf16, in different places"
                          : dtype == at::kBFloat16 ? "this run rounds to bf16"
                                                   : "the peer rounds to bf16",
                          kBf16Bounds,
                          /*tensor=*/""});
  } else if (dtype == at::kHalf || case_dtype == at::kHalf) {
    exceptions.push_back({dtype == case_dtype  ? "both programs round to fp16, in different places"
                          : dtype == at::kHalf ? "this run rounds to fp16"
                                               : "the peer rounds to fp16",
                          kFp16Bounds,
                          /*tensor=*/""});
  } else if (dtype == at::kDouble) {
    exceptions.push_back(
        {"the peer rounds weights to fp32 after each step, up to 3.1e-5 of the "
         "distance moved",
         {{ParityKind::weight_after3, 5e-5}},
         /*tensor=*/""});
  }
  if (transformer.cross_entropy_loss_fusion) {
    exceptions.push_back(
        {"the peer's fused cross-entropy rounds the gradient of the logits to bf16",
         kBf16LogitGradientBounds,
         /*tensor=*/""});
  }
  if (options.optimizer.optimizer == OptimizerType::adam && options.optimizer.adam_eps < 1e-6 &&
      has_key_bias_without_gradient(options.model)) {
    exceptions.push_back(
        {fmt::format("the gradient of the keys' bias is zero in exact arithmetic; Adam with an "
                     "epsilon of {:g} scales the rounding noise of the peer to full updates",
                     options.optimizer.adam_eps),
         {{ParityKind::weight_after3, 5e-4}},
         "linear_qkv.bias"});
  }
  return exceptions;
}

std::vector<std::string> clear_options_that_the_peer_ignores(Options& options) {
  std::vector<std::string> lines;
  const auto clear = [&](bool& option, const char* name) {
    if (!option) return;
    option = false;
    lines.push_back(fmt::format(
        "compared without {}: the peer ignores it here, and its numbers are those of the "
        "model without it; this program applies it",
        name));
  };
  clear(options.model.fp16_lm_cross_entropy, "fp16_lm_cross_entropy");
  clear(options.model.transformer.apply_residual_connection_post_layernorm,
        "apply_residual_connection_post_layernorm");
  return lines;
}

}  // namespace megatron
