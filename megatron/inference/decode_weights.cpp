#include "megatron/inference/decode_weights.h"

#include <map>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/transformer/core_attention.h"
#include "megatron/transformer/layer_norm_column_parallel_linear.h"
#include "megatron/transformer/mlp.h"
#include "megatron/transformer/self_attention.h"
#include "megatron/transformer/te_fused_mlp.h"
#include "megatron/transformer/transformer_layer.h"

namespace megatron {
namespace {

using ParameterMap = std::map<std::string, at::Tensor>;

ParameterMap parameters_by_name(const GPTModel& model) {
  ParameterMap map;
  for (const ParameterPtr& parameter : model.parameters())
    map[parameter->name] = parameter->data.detach();
  return map;
}

// Takes a tensor out of the map; undefined if it is not there.
at::Tensor take(ParameterMap& map, const std::string& name) {
  const auto found = map.find(name);
  if (found == map.end()) return {};
  at::Tensor tensor = std::move(found->second);
  map.erase(found);
  return tensor;
}

template <typename Module>
bool is_a(const GPTModel& model, const std::string& path) {
  return dynamic_cast<const Module*>(model.find_module(path).get()) != nullptr;
}

std::string layer_name(int64_t layer) {
  return fmt::format("decoder.layers.{}.", layer);
}

// Options of the configuration that change the computation in a way the runner does not have.
std::string reason_against_config(const GPTModelConfig& config) {
  const TransformerConfig& transformer = config.transformer;
  const std::pair<bool, const char*> reasons[] = {
      {transformer.mla.multi_latent_attention, "multi-latent attention"},
      {transformer.moe.has_experts(), "experts"},
      {transformer.attention_output_gate, "attention_output_gate"},
      {transformer.qk_l2_norm, "qk_l2_norm"},
      {transformer.qk_layernorm && transformer.qk_layernorm_scope != QkNormScope::head,
       "a qk_layernorm_scope other than head"},
      {transformer.apply_residual_connection_post_layernorm,
       "apply_residual_connection_post_layernorm"},
      {transformer.mup.use_mup, "use_mup"},
      {config.position_embedding_type == PositionEmbeddingType::mrope, "mrope"},
      {config.has_longrope(), "longrope, whose cached keys depend on the length"},
      {config.rope_dynamic_scaling_factor.has_value(),
       "dynamic rope scaling, whose cached keys depend on the length"},
  };
  for (const auto& [applies, reason] : reasons) {
    if (applies) return reason;
  }
  return {};
}

std::string reason_against_modules(const GPTModel& model) {
  for (int64_t i = 0; i < model.config().transformer.num_layers; ++i) {
    const std::string layer = fmt::format("decoder.layers.{}", i);
    const bool is_known =
        is_a<TransformerLayer>(model, layer) &&
        is_a<SelfAttention>(model, layer + ".self_attention") &&
        is_a<DotProductAttention>(model, layer + ".self_attention.core_attention") &&
        (is_a<MLP>(model, layer + ".mlp") || is_a<TEFusedMLP>(model, layer + ".mlp"));
    if (!is_known) return fmt::format("modules of another kind in layer {}", i);
  }
  return {};
}

DecodeNorm take_norm(ParameterMap& map, const std::string& prefix,
                     const TransformerConfig& config) {
  DecodeNorm norm{take(map, prefix + "weight"), take(map, prefix + "bias")};
  if (!norm.defined()) return {};
  norm.weight = norm.weight.to(at::kFloat).contiguous();
  if (config.layernorm_zero_centered_gamma) norm.weight = norm.weight + 1;
  if (norm.bias.defined()) norm.bias = norm.bias.to(at::kFloat).contiguous();
  return norm;
}

at::ScalarType dtype_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::bf16:
      return at::kBFloat16;
    case WeightFormat::fp16:
      return at::kHalf;
    default:
      return at::kFloat;
  }
}

PackedMatrix pack_matrix(const at::Tensor& weight, const at::Tensor& bias, WeightFormat format,
                         PackedMatrix::Kind kind) {
  if (format == WeightFormat::int8)
    return PackedMatrix::quantized(quantize_int_groups(weight, {}), /*bits=*/8, bias, kind);
  if (format == WeightFormat::int4) {
    const int64_t k = weight.size(1), group_size = k % 64 == 0 ? 64 : 32;
    return PackedMatrix::quantized(
        quantize_int_groups(weight, {.lo = -8, .hi = 7, .group_size = group_size}), /*bits=*/4,
        bias, kind);
  }
  return PackedMatrix(weight, bias, dtype_of(format), kind);
}

DecodeLayer take_layer(ParameterMap& map, int64_t i, const TransformerConfig& config,
                       WeightFormat format) {
  const std::string attention = layer_name(i) + "self_attention.", mlp = layer_name(i) + "mlp.";
  const auto matrix = [&](const std::string& name, PackedMatrix::Kind kind) {
    const at::Tensor weight = take(map, name + "weight"), bias = take(map, name + "bias");
    return pack_matrix(weight, bias, format, kind);
  };
  using enum PackedMatrix::Kind;
  DecodeLayer layer;
  layer.input_norm = take_norm(map, attention + "linear_qkv.layer_norm_", config);
  // A norm that two branches share keeps its own name.
  if (!layer.input_norm.defined())
    layer.input_norm = take_norm(map, layer_name(i) + "input_layernorm.", config);
  layer.mlp_norm = take_norm(map, mlp + "linear_fc1.layer_norm_", config);
  layer.post_attention_norm = take_norm(map, attention + "linear_proj.post_layernorm.", config);
  layer.post_mlp_norm = take_norm(map, mlp + "linear_fc2.post_layernorm.", config);
  layer.query_norm = take_norm(map, attention + "q_layernorm.", config);
  layer.key_norm = take_norm(map, attention + "k_layernorm.", config);
  layer.qkv = matrix(attention + "linear_qkv.", plain);
  layer.proj = matrix(attention + "linear_proj.", plain);
  layer.fc1 = matrix(mlp + "linear_fc1.", config.gated_linear_unit ? glu : plain);
  layer.fc2 = matrix(mlp + "linear_fc2.", plain);
  const at::Tensor sinks = take(map, attention + "core_attention.softmax_offset");
  if (sinks.defined()) layer.sinks = sinks.to(at::kFloat).contiguous();
  if (config.softmax_type == SoftmaxType::off_by_one)
    layer.sinks = at::zeros({config.num_attention_heads}, at::kFloat);
  if (config.has_window(i + 1)) layer.window = config.window_size[0];
  layer.has_rope = config.has_rope(i + 1);
  return layer;
}

constexpr std::pair<WeightFormat, const char*> kFormatNames[] = {{WeightFormat::fp32, "fp32"},
                                                                 {WeightFormat::bf16, "bf16"},
                                                                 {WeightFormat::fp16, "fp16"},
                                                                 {WeightFormat::int8, "int8"},
                                                                 {WeightFormat::int4, "int4"}};

}  // namespace

WeightFormat weight_format_of(at::ScalarType dtype) {
  for (const WeightFormat format : {WeightFormat::fp32, WeightFormat::bf16, WeightFormat::fp16}) {
    if (dtype_of(format) == dtype) return format;
  }
  fail("Expected weights as fp32, bf16 or fp16, but got {}", dtype_name(dtype));
}

WeightFormat weight_format_from_name(std::string_view name) {
  for (const auto& [format, known] : kFormatNames) {
    if (name == known) return format;
  }
  fail("Expected weights as fp32, bf16, fp16, int8 or int4, but got {}", name);
}

std::string weight_format_name(WeightFormat format) {
  for (const auto& [known, name] : kFormatNames) {
    if (format == known) return name;
  }
  fail("Expected a known format of weights");
}

std::string reason_against_fast_runner(const GPTModel& model) {
  const ProcessGroupCollection& groups = model.groups();
  const PipelineStage& stage = model.stage();
  if (groups.tp->size() > 1 || (groups.cp && groups.cp->size() > 1) || stage.size > 1 ||
      !stage.pre_process || !stage.post_process)
    return "a model that is split over ranks";
  for (const ParameterPtr& parameter : model.parameters()) {
    const at::Tensor& data = parameter->data;
    if (!data.is_cpu()) return "parameters that are not on the CPU";
    if (data.scalar_type() == at::kDouble) return "fp64 parameters";
  }
  if (std::string reason = reason_against_config(model.config()); !reason.empty()) return reason;
  return reason_against_modules(model);
}

DecodeWeights::DecodeWeights(const GPTModel& model, WeightFormat format) {
  const std::string reason = reason_against_fast_runner(model);
  check(reason.empty(), "Expected a model that FastModelRunner runs, but got {}", reason);
  const at::NoGradGuard no_grad;
  const TransformerConfig& config = model.config().transformer;
  ParameterMap map = parameters_by_name(model);
  std::erase_if(map, [](const auto& entry) { return entry.first.starts_with("mtp."); });
  for (int64_t i = 0; i < config.num_layers; ++i)
    layers.push_back(take_layer(map, i, config, format));
  embedding = take(map, "embedding.word_embeddings.weight");
  positions = take(map, "embedding.position_embeddings.weight");
  final_norm = take_norm(map, "decoder.final_layernorm.", config);
  const int64_t vocabulary = model.config().required_vocab_size();
  at::Tensor weight = take(map, "output_layer.weight"), bias = take(map, "output_layer.bias");
  if (!weight.defined()) weight = embedding;
  output = pack_matrix(
      weight.narrow(0, 0, vocabulary), bias.defined() ? bias.narrow(0, 0, vocabulary) : bias,
      format == WeightFormat::int4 ? WeightFormat::int8 : format, PackedMatrix::Kind::plain);
  check(map.empty(), "Expected parameters that FastModelRunner knows, but got {}",
        map.empty() ? "" : map.begin()->first);
}

int64_t DecodeWeights::matrix_bytes() const {
  int64_t bytes = output.bytes();
  for (const DecodeLayer& layer : layers)
    bytes += layer.qkv.bytes() + layer.proj.bytes() + layer.fc1.bytes() + layer.fc2.bytes();
  return bytes;
}

}  // namespace megatron
