#include "megatron/config/model/fixed_fields.h"

#include <algorithm>

#include "megatron/base/error.h"

namespace megatron {
namespace {

constexpr const char* kAutocast =
    "autocast of a whole model is not supported in this version; bf16 and fp16 work";
constexpr const char* kFp8 =
    "this option of FP8 and FP4 is not supported in this version; fp8 with fp8_recipe works";
constexpr const char* kGraphs = "CUDA graphs are not supported in this version";
constexpr const char* kOffloading =
    "offloading to the CPU is not supported in this version; recompute_granularity saves memory too";
constexpr const char* kInference = "this kind of inference is not supported in this version";
constexpr const char* kExperts = "this option of experts is not supported in this version";
constexpr const char* kOther = "this version supports no other value";

// Fields of one family, which share the reason for their single value.
using Family = std::vector<std::pair<const char*, nlohmann::json>>;

void append(std::vector<FixedField>& fields, const Family& family, const char* advice) {
  for (const auto& [name, value] : family) fields.push_back({name, value, advice});
}

std::vector<FixedField> make_fixed_fields() {
  std::vector<FixedField> fields;
  append(fields, {{"autocast_dtype", nullptr}, {"enable_autocast", false}}, kAutocast);
  append(fields,
         {{"fp8_param", false},
          {"fp8_quantizer_factory", nullptr},
          {"fp8_interval", 1},
          {"fp8_wgrad", true},
          {"fp8_output_proj", false},
          {"fp8_dot_product_attention", false},
          {"fp8_multi_head_attention", false},
          {"tp_only_amax_red", false},
          {"use_kitchen", false},
          {"use_kitchen_attention", false},
          {"kitchen_attention_backend", "sdpa"},
          {"quant_recipe", nullptr},
          {"fp4", nullptr},
          {"fp4_recipe", "nvfp4"},
          {"fp4_param", false},
          {"fp4_quantizer_factory", nullptr}},
         kFp8);
  append(fields,
         {{"enable_cuda_graph", false},
          {"external_cuda_graph", false},
          {"cuda_graph_scope", "full"},
          {"cuda_graph_use_single_mempool", false},
          {"cuda_graph_retain_backward_graph", false},
          {"cuda_graph_warmup_steps", 3},
          {"use_te_rng_tracker", false}},
         kGraphs);
  append(fields,
         {{"cpu_offloading", false},
          {"cpu_offloading_num_layers", 0},
          {"cpu_offloading_activations", true},
          {"cpu_offloading_weights", false},
          {"cpu_offloading_double_buffering", false},
          {"fine_grained_activation_offloading", false},
          {"offload_modules", nullptr},
          {"min_offloaded_tensor_size", 1 << 20}},
         kOffloading);
  append(fields,
         {{"flash_decode", false},
          {"batch_invariant_mode", false},
          {"inference_rng_tracker", false},
          {"inference_sampling_seed", 42},
          {"symmetric_ar_type", nullptr},
          {"nccl_all_reduce_for_prefill", false},
          {"use_inference_optimized_layers", false},
          {"mlp_chunks_for_prefill", 1}},
         kInference);
  append(fields,
         {{"moe_router_topk_limited_devices", nullptr},
          {"moe_enable_deepep", false},
          {"moe_flex_dispatcher_backend", "deepep"},
          {"moe_deepep_num_sms", 20},
          {"moe_hybridep_num_sms", 16},
          {"moe_per_layer_logging", false},
          {"moe_layer_recompute", false},
          {"moe_latent_size", nullptr},
          {"moe_use_legacy_grouped_gemm", false},
          {"moe_token_dropping", false},
          {"moe_extended_tp", false}},
         kExperts);
  append(fields,
         {{"attention_softmax_in_fp32", true},
          {"disable_parameter_transpose_cache", false},
          {"init_model_with_meta_device", false},
          {"hierarchical_context_parallel_sizes", nullptr},
          {"hybrid_context_parallel", false},
          {"max_seqlen_per_dp_cp_rank", nullptr},
          {"distribute_saved_activations", false},
          {"memory_efficient_layer_norm", false},
          {"clone_scatter_output_in_embedding", true},
          {"hetereogenous_dist_checkpoint", false},
          {"heterogeneous_block_specs", false},
          {"is_hybrid_model", false},
          {"experimental_attention_variant", nullptr},
          {"mla_down_proj_fusion", false},
          {"mtp_standalone", false},
          {"mtp_hsm", false},
          {"ep_overlap_early_attn_memory_release", false},
          {"test_mode", false},
          {"config_logger_dir", ""},
          {"mlp_chunks_for_training", 1}},
         kOther);
  append(fields,
         {{"tp_comm_bulk_wgrad", true},
          {"tp_comm_bulk_dgrad", true},
          {"tp_comm_overlap_ag", true},
          {"tp_comm_overlap_rs", true},
          {"tp_comm_overlap_rs_dgrad", false}},
         "tp_comm_overlap_cfg selects the overlap of each linear layer");
  // Which kernels and collectives compute the same numbers: any value is as good.
  for (const char* name :
       {"masked_softmax_fusion", "bias_dropout_fusion", "persist_layer_norm", "apply_rope_fusion",
        "fused_single_qkv_rope", "gradient_accumulation_fusion",
        "async_tensor_model_parallel_allreduce", "use_ring_exchange_p2p", "batch_p2p_comm",
        "batch_p2p_sync", "barrier_with_L1_time", "use_cpu_initialization", "deterministic_mode",
        "use_fused_weighted_squared_relu", "tp_comm_bootstrap_backend",
        "overlap_p2p_comm_warmup_flush", "moe_permute_fusion", "moe_router_fusion"})
    fields.push_back({.name = name, .any_value = true});
  return fields;
}

}  // namespace

const std::vector<FixedField>& fixed_fields() {
  static const std::vector<FixedField> fields = make_fixed_fields();
  return fields;
}

const FixedField* find_fixed_field(std::string_view name, const nlohmann::json& value) {
  const auto field = std::ranges::find(fixed_fields(), name, &FixedField::name);
  if (field == fixed_fields().end()) {
    // Others of a family by their beginning, so that the reason is the family's.
    check(!(name.starts_with("fp8") || name.starts_with("fp4")), "Expected no {}, but got it; {}",
          name, kFp8);
    return nullptr;
  }
  check(value.is_null() || field->any_value || value == field->value,
        "Expected {} to be {}, but got {}; {}", name, field->value.dump(), value.dump(),
        field->advice);
  return &*field;
}

}  // namespace megatron
