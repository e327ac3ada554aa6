#include "megatron/transformer/module_registry.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"
#include "megatron/transformer/core_attention.h"
#include "megatron/transformer/layer_norm_column_parallel_linear.h"
#include "megatron/transformer/mlp.h"
#include "megatron/transformer/multi_latent_attention.h"
#include "megatron/transformer/multi_token_prediction_layer.h"
#include "megatron/transformer/norm.h"
#include "megatron/transformer/self_attention.h"
#include "megatron/transformer/te_fused_mlp.h"
#include "megatron/transformer/te_transformer_layer_autocast.h"

namespace megatron {
namespace {

void check_known(const std::string& name, const std::vector<std::string>& known,
                 const std::string& kind, const std::string& module) {
  check(std::find(known.begin(), known.end(), name) != known.end(),
        "Expected {} of {} ({}), but got '{}'{}", kind, module,
        known.empty() ? "it has none" : fmt::format("{}", fmt::join(known, ", ")), name,
        nearest_hint(name, known));
}

std::shared_ptr<Norm> make_weighted_norm(const BuildArguments& arguments, const int64_t& size) {
  return std::make_shared<WeightedNorm>(arguments.config, size, arguments.options);
}

// Apex's kernel, after which the module is named, has no RMSNorm.
std::shared_ptr<Norm> make_fused_layer_norm(const BuildArguments& arguments, const int64_t& size) {
  check(arguments.config.normalization == Normalization::LayerNorm,
        "Expected normalization LayerNorm with FusedLayerNorm, but got RMSNorm; WrappedTorchNorm "
        "and TENorm have it");
  return make_weighted_norm(arguments, size);
}

std::shared_ptr<Norm> make_l2_norm(const BuildArguments& arguments, const int64_t&) {
  return std::make_shared<L2Norm>(arguments.config);
}

// Of queries or keys; the configuration says what it normalizes.
std::shared_ptr<Norm> make_heads_norm(const BuildArguments& arguments, const int64_t& size) {
  check(arguments.config.qk_layernorm_scope != QkNormScope::head,
        "Expected qk_layernorm_scope=per_head or projection with HeadsNorm, but got head; TENorm "
        "and WrappedTorchNorm have it");
  return std::make_shared<HeadsNorm>(arguments.config, size, arguments.options);
}

// A linear layer of the local specs, which compute in high precision.
void check_high_precision(const BuildArguments& arguments, const char* other) {
  check(!arguments.config.low_precision.is_used(),
        "Expected {} with fp8, but got {}, which computes in high precision; "
        "transformer_engine_layer_spec has it",
        other, arguments.spec.module);
}

// The options of a linear layer of Transformer Engine's specs, which quantises its operands where the
// configuration says so.
LayerOptions te_options(const BuildArguments& arguments) {
  LayerOptions options = arguments.options;
  if (arguments.config.has_low_precision(arguments.layer_number))
    options.low_precision = arguments.config.low_precision;
  return options;
}

std::shared_ptr<ColumnLinear> make_column_linear(const BuildArguments& arguments,
                                                 const ColumnParallelLinearArguments& sizes) {
  check_high_precision(arguments, "TEColumnParallelLinear");
  return std::make_shared<ColumnParallelLinear>(sizes, arguments.options);
}

std::shared_ptr<ColumnLinear> make_te_column_linear(const BuildArguments& arguments,
                                                    const ColumnParallelLinearArguments& sizes) {
  return std::make_shared<ColumnParallelLinear>(sizes, te_options(arguments));
}

std::shared_ptr<ColumnLinear> make_norm_column_linear(const BuildArguments& arguments,
                                                      const ColumnParallelLinearArguments& sizes) {
  return std::make_shared<LayerNormColumnParallelLinear>(arguments.config, sizes,
                                                         te_options(arguments));
}

std::shared_ptr<RowLinear> make_row_linear(const BuildArguments& arguments,
                                           const RowParallelLinearArguments& sizes) {
  check_high_precision(arguments, "TERowParallelLinear");
  return std::make_shared<RowParallelLinear>(sizes, arguments.options);
}

std::shared_ptr<RowLinear> make_te_row_linear(const BuildArguments& arguments,
                                              const RowParallelLinearArguments& sizes) {
  return std::make_shared<RowParallelLinear>(sizes, te_options(arguments));
}

std::shared_ptr<ReplicatedLinear> make_replicated_linear(const BuildArguments& arguments,
                                                         const ReplicatedLinearArguments& sizes) {
  check_high_precision(arguments, "TELinear");
  return std::make_shared<ReplicatedLinear>(sizes, arguments.options);
}

std::shared_ptr<ReplicatedLinear> make_te_replicated_linear(
    const BuildArguments& arguments, const ReplicatedLinearArguments& sizes) {
  return std::make_shared<ReplicatedLinear>(sizes, te_options(arguments));
}

std::shared_ptr<CoreAttention> make_core_attention(const BuildArguments& arguments,
                                                   const std::optional<double>& softmax_scale) {
  return std::make_shared<DotProductAttention>(arguments.config, arguments.layer_number,
                                               arguments.options, softmax_scale);
}

// A registry entry that builds `Module` from the arguments alone.
template <typename Module, typename Interface>
typename ModuleRegistry<Interface>::Entry entry_of(std::vector<std::string> slots,
                                                   std::vector<std::string> params = {}) {
  return {.build = [](const BuildArguments& arguments) -> std::shared_ptr<Interface> {
            return std::make_shared<Module>(arguments);
          },
          .slots = std::move(slots),
          .params = std::move(params)};
}

}  // namespace

void check_slots(const ModuleSpec& spec, const std::vector<std::string>& slots) {
  for (const auto& entry : spec.submodules) check_known(entry.first, slots, "a slot", spec.module);
}

void check_params(const ModuleSpec& spec, const std::vector<std::string>& params) {
  for (const auto& entry : spec.params)
    check_known(entry.first, params, "a parameter", spec.module);
}

void fail_unknown_module(const std::string& name, const std::string& interface,
                         const std::vector<std::string>& known) {
  fail("Expected a registered module for {} ({}), but got '{}'{}", interface,
       fmt::join(known, ", "), name, nearest_hint(name, known));
}

ModuleRegistry<Norm, int64_t>& norm_modules() {
  static ModuleRegistry<Norm, int64_t> registry("a norm",
                                                {{"TENorm", {make_weighted_norm}},
                                                 {"FusedLayerNorm", {make_fused_layer_norm}},
                                                 {"WrappedTorchNorm", {make_weighted_norm}},
                                                 {"Norm", {make_weighted_norm}},
                                                 {"HeadsNorm", {make_heads_norm}},
                                                 {"L2Norm", {make_l2_norm}}});
  return registry;
}

ModuleRegistry<ColumnLinear, ColumnParallelLinearArguments>& column_linear_modules() {
  static ModuleRegistry<ColumnLinear, ColumnParallelLinearArguments> registry(
      "a column-parallel linear layer",
      {{"ColumnParallelLinear", {make_column_linear}},
       {"TEColumnParallelLinear", {make_te_column_linear}},
       {"TELayerNormColumnParallelLinear", {make_norm_column_linear}}});
  return registry;
}

ModuleRegistry<RowLinear, RowParallelLinearArguments>& row_linear_modules() {
  static ModuleRegistry<RowLinear, RowParallelLinearArguments> registry(
      "a row-parallel linear layer",
      {{"RowParallelLinear", {make_row_linear}}, {"TERowParallelLinear", {make_te_row_linear}}});
  return registry;
}

ModuleRegistry<ReplicatedLinear, ReplicatedLinearArguments>& replicated_linear_modules() {
  static ModuleRegistry<ReplicatedLinear, ReplicatedLinearArguments> registry(
      "a replicated linear layer",
      {{"ReplicatedLinear", {make_replicated_linear}}, {"TELinear", {make_te_replicated_linear}}});
  return registry;
}

ModuleRegistry<CoreAttention, std::optional<double>>& core_attention_modules() {
  static ModuleRegistry<CoreAttention, std::optional<double>> registry(
      "a core attention", {{"DotProductAttention", {make_core_attention}},
                           {"TEDotProductAttention", {make_core_attention}}});
  return registry;
}

ModuleRegistry<Attention>& attention_modules() {
  static ModuleRegistry<Attention> registry(
      "an attention",
      {{"SelfAttention",
        entry_of<SelfAttention, Attention>(
            {"linear_qkv", "core_attention", "linear_proj", "q_layernorm", "k_layernorm"},
            {"attn_mask_type"})},
       {"MLASelfAttention",
        entry_of<MLASelfAttention, Attention>(
            {"linear_q_proj", "linear_q_down_proj", "linear_q_up_proj", "linear_kv_down_proj",
             "linear_kv_up_proj", "core_attention", "linear_proj", "q_layernorm", "kv_layernorm"},
            {"attn_mask_type"})}});
  return registry;
}

ModuleRegistry<FeedForward>& feed_forward_modules() {
  static ModuleRegistry<FeedForward> registry(
      "an MLP", {{"MLP", entry_of<MLP, FeedForward>({"linear_fc1", "linear_fc2"})},
                 {"TEFusedMLP", entry_of<TEFusedMLP, FeedForward>({"linear_fc1", "linear_fc2"})}});
  return registry;
}

ModuleRegistry<BaseTransformerLayer>& layer_modules() {
  static ModuleRegistry<BaseTransformerLayer> registry(
      "a transformer layer",
      {{"TransformerLayer",
        entry_of<TransformerLayer, BaseTransformerLayer>(
            {"input_layernorm", "self_attention", "post_self_attn_layernorm", "self_attn_bda",
             "pre_mlp_layernorm", "mlp", "post_mlp_layernorm", "mlp_bda"})},
       {"TETransformerLayerAutocast",
        entry_of<TETransformerLayerAutocast, BaseTransformerLayer>({}, {"has_experts"})}});
  return registry;
}

ModuleRegistry<MultiTokenPredictionLayer>& mtp_layer_modules() {
  static ModuleRegistry<MultiTokenPredictionLayer> registry(
      "a multi-token prediction layer",
      {{"MultiTokenPredictionLayer",
        entry_of<MultiTokenPredictionLayer, MultiTokenPredictionLayer>(
            {"enorm", "hnorm", "eh_proj", "mtp_model_layer", "layer_norm"})}});
  return registry;
}

std::shared_ptr<Norm> build_norm(const BuildArguments& arguments, int64_t size) {
  if (!arguments.spec.is_identity()) return norm_modules().build(arguments, size);
  check_slots(arguments.spec, {});
  check_params(arguments.spec, {});
  return nullptr;
}

}  // namespace megatron
