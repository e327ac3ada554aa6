// Entry points of the model checks, and the checks of sizes, heads and vocabulary.
#include <cmath>

#include "megatron/base/dtype.h"
#include "megatron/base/problems.h"
#include "megatron/config/model/builder_names.h"
#include "megatron/config/model/config_fields.h"
#include "megatron/config/model/model_checks.h"

namespace megatron {
namespace {

void expect_probability(const char* field, double value, Problems& problems) {
  problems.expect(value >= 0 && value < 1,
                  "Expected {} of at least 0 and below 1, but got {}; 0 disables it", field, value);
}

// Returns whether all sizes are valid.
bool check_sizes(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  bool valid = true;
  valid &= problems.is_required_size("num_layers", t.num_layers);
  valid &= problems.is_required_size("hidden_size", t.hidden_size);
  valid &= problems.is_required_size("num_attention_heads", t.num_attention_heads);
  valid &= problems.is_size("seq_length", config.seq_length);
  valid &= !config.vocab_size || problems.is_size("vocab_size", *config.vocab_size);
  valid &= problems.is_size("make_vocab_size_divisible_by", config.make_vocab_size_divisible_by);
  const auto optional_size = [&](const char* field, const std::optional<int64_t>& value) {
    valid &= !value || problems.is_size(field, *value);
  };
  optional_size("num_query_groups", t.num_query_groups);
  optional_size("kv_channels", t.kv_channels);
  optional_size("ffn_hidden_size", t.ffn_hidden_size);
  optional_size("max_position_embeddings", config.max_position_embeddings);
  return valid;
}

bool check_parallel_sizes(const TransformerConfig& t, Problems& problems) {
  const bool tensor = problems.is_size("tensor_model_parallel_size", t.tensor_model_parallel_size);
  const bool context = problems.is_size("context_parallel_size", t.context_parallel_size);
  return problems.is_size("pipeline_model_parallel_size", t.pipeline_model_parallel_size) &&
         tensor && context;
}

void check_padding(const GPTModelConfig& config, Problems& problems) {
  const bool is_default =
      config.make_vocab_size_divisible_by == GPTModelConfig().make_vocab_size_divisible_by;
  problems.expect(config.should_pad_vocab || is_default,
                  "Expected make_vocab_size_divisible_by or should_pad_vocab=false, but got both; "
                  "leave one out");
}

void check_finite(const ConfigFields& fields, Problems& problems) {
  for (const ConfigField& field : fields.fields) {
    std::vector<double> numbers;
    if (const auto* number = std::get_if<double*>(&field.value)) numbers = {**number};
    if (const auto* number = std::get_if<std::optional<double>*>(&field.value))
      numbers = {(*number)->value_or(0)};
    if (const auto* list = std::get_if<std::vector<double>*>(&field.value)) numbers = **list;
    for (const double number : numbers)
      problems.expect(std::isfinite(number), "Expected a finite number for {}, but got {}",
                      field.name, number);
  }
  for (const auto& [member, inner] : fields.nested) check_finite(inner, problems);
}

void check_heads(const TransformerConfig& t, Problems& problems) {
  const int64_t heads = t.num_attention_heads;
  problems.expect(t.mla.multi_latent_attention || t.kv_channels || t.hidden_size % heads == 0,
                  "Expected hidden_size divisible by num_attention_heads ({}), but got {}; a "
                  "hidden size of {}, or {} heads, or kv_channels would work",
                  heads, t.hidden_size, nearest_multiples(heads, t.hidden_size),
                  nearest_divisors(t.hidden_size, heads));
  const int64_t groups = t.query_groups();
  problems.expect(heads % groups == 0,
                  "Expected num_attention_heads divisible by num_query_groups ({}), but got {}; {} "
                  "groups would work",
                  groups, heads, nearest_divisors(heads, groups));
}

}  // namespace

void check_supported(const TransformerConfig& t, Problems& problems) {
  const bool is_known = t.params_dtype == at::kFloat || t.params_dtype == at::kBFloat16 ||
                        t.params_dtype == at::kHalf || t.params_dtype == at::kDouble;
  problems.expect(is_known,
                  "Expected params_dtype fp32, bf16, fp16 or fp64, but got {}; bf16 works",
                  c10::toString(t.params_dtype));
  if (!is_known) return;
  problems.expect(!(t.bf16 && t.fp16),
                  "Expected bf16=true or fp16=true, but got both; leave one out");
  if (t.bf16 && t.fp16) return;
  problems.expect(!t.bf16 || t.params_dtype == at::kBFloat16 || t.params_dtype == at::kFloat,
                  "Expected params_dtype bf16 or fp32 with bf16=true, but got {}; leave one out",
                  dtype_name(t.params_dtype));
  problems.expect(!t.fp16 || t.params_dtype == at::kHalf || t.params_dtype == at::kFloat,
                  "Expected params_dtype fp16 or fp32 with fp16=true, but got {}; leave one out",
                  dtype_name(t.params_dtype));
  const at::ScalarType dtype = t.compute_dtype();
  problems.expect(t.pipeline_dtype.value_or(dtype) == dtype,
                  "Expected pipeline_dtype to equal {} ({}), but got {}; leave it out",
                  t.bf16   ? "that of bf16=true"
                  : t.fp16 ? "that of fp16=true"
                           : "params_dtype",
                  dtype_name(dtype), dtype_name(t.pipeline_dtype.value_or(dtype)));
  problems.expect(t.cuda_graph_impl == CudaGraphImpl::none,
                  "Expected cuda_graph_impl none, but got local; CUDA graphs are not supported in "
                  "this version");
  problems.expect(t.cross_entropy_fusion_impl != CrossEntropyFusion::te,
                  "Expected cross_entropy_fusion_impl native or linear, but got te; there is no "
                  "Transformer Engine");
  problems.expect(
      t.qk_clip_alpha == TransformerConfig{}.qk_clip_alpha,
      "Expected no qk_clip_alpha, but got {}; rescaling of the weights is not supported "
      "in this version: leave it out",
      t.qk_clip_alpha);
}

void check_supported(const TransformerConfig& config) {
  Problems problems;
  check_supported(config, problems);
  problems.throw_if_any();
}

void check_model(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  const bool sizes = check_sizes(config, problems);
  const bool parallel_sizes = check_parallel_sizes(t, problems);
  if (sizes) {
    check_heads(t, problems);
    check_padding(config, problems);
    check_positions(config, problems);
    check_attention(config, problems);
    check_multi_token_prediction(config, problems);
    check_mup(t, problems);
    check_experts(config, problems);
    check_low_precision(config, problems);
  }
  if (sizes && parallel_sizes) {
    check_tensor_parallel(config, problems);
    check_pipeline(config, problems);
    check_context_parallel(config, problems);
  }
  problems.expect(
      config.extra_checkpoint_metadata.is_null() || config.extra_checkpoint_metadata.is_object(),
      "Expected an object for extra_checkpoint_metadata, but got {}",
      config.extra_checkpoint_metadata.type_name());
  check_activation(t, problems);
  check_norms_and_residual(t, problems);
  check_recomputation(t, problems);
  check_tensor_parallel_overlap(t, problems);
  check_unused_fields(config, problems);
  check_finite(fields_of(const_cast<GPTModelConfig&>(config)), problems);  // only read
  problems.collect([&] { check_builder_name(config.builder); });
  check_supported(t, problems);
  check_loss(config, problems);
  expect_probability("hidden_dropout", t.hidden_dropout, problems);
  expect_probability("attention_dropout", t.attention_dropout, problems);
  problems.expect(t.layernorm_epsilon > 0,
                  "Expected layernorm_epsilon above 0, but got {}; 1e-5 works",
                  t.layernorm_epsilon);
  problems.expect(t.init_method_std >= 0 && t.embedding_std() >= 0,
                  "Expected init_method_std and embedding_init_method_std of at least 0, but got "
                  "{} and {}; 0.02 is usual",
                  t.init_method_std, t.embedding_std());
  check_layer_spec(config, problems);
  check_fused_layers(config, problems);
}

void check_model(const GPTModelConfig& config) {
  Problems problems;
  check_model(config, problems);
  if (!config.vocab_size) problems.collect([&] { config.required_vocab_size(); });
  problems.throw_if_any();
}

}  // namespace megatron
