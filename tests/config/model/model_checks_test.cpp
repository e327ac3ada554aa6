// The checks of a model's configuration, as the constructors call them: messages name fields.
#include "megatron/config/model/model_checks.h"

#include <functional>
#include <gmock/gmock.h>
#include <limits>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/base/problems.h"

namespace megatron {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

GPTModelConfig valid_config() {
  GPTModelConfig config;
  config.vocab_size = 128;
  config.should_pad_vocab = true;
  config.share_embeddings_and_output_weights = true;
  config.seq_length = 32;
  config.transformer.num_layers = 4;
  config.transformer.hidden_size = 64;
  config.transformer.num_attention_heads = 4;
  return config;
}

struct InvalidModel {
  const char* name;
  std::function<void(GPTModelConfig&)> change;
  const char* message;
  friend void PrintTo(const InvalidModel& model, std::ostream* out) { *out << model.name; }
};

const InvalidModel kInvalidModels[] = {
    {"te_cross_entropy",
     [](auto& c) {
       c.transformer.cross_entropy_loss_fusion = true;
       c.transformer.cross_entropy_fusion_impl = CrossEntropyFusion::te;
     },
     "Expected cross_entropy_fusion_impl native or linear, but got te"},
    {"te_cross_entropy_without_fusion",
     [](auto& c) { c.transformer.cross_entropy_fusion_impl = CrossEntropyFusion::te; },
     "Expected cross_entropy_fusion_impl native or linear, but got te"},
    {"cuda_graphs", [](auto& c) { c.transformer.cuda_graph_impl = CudaGraphImpl::local; },
     "Expected cuda_graph_impl none, but got local"},
    {"experts", [](auto& c) { c.transformer.expert_model_parallel_size = 2; },
     "Expected num_moe_experts with expert_model_parallel_size 2, but got none"},
    {"pipeline_dtype", [](auto& c) { c.transformer.pipeline_dtype = at::kBFloat16; },
     "Expected pipeline_dtype to equal params_dtype (fp32), but got bf16"},
    {"qk_clip_alpha", [](auto& c) { c.transformer.qk_clip_alpha = 0.25; },
     "Expected no qk_clip_alpha, but got 0.25"},
    {"bf16_of_fp64_parameters",
     [](auto& c) {
       c.transformer.bf16 = true;
       c.transformer.params_dtype = at::kDouble;
     },
     "Expected params_dtype bf16 or fp32 with bf16=true, but got fp64"},
    {"no_vocabulary", [](auto& c) { c.vocab_size = 0; }, "Expected vocab_size of at least 1"},
    {"no_layers", [](auto& c) { c.transformer.num_layers = 0; },
     "Expected num_layers of at least 1"},
    {"heads", [](auto& c) { c.transformer.num_attention_heads = 3; },
     "Expected hidden_size divisible by num_attention_heads (3), but got 64"},
    {"silu_without_gate", [](auto& c) { c.transformer.activation_func = ActivationFunction::silu; },
     "Expected gated_linear_unit with activation_func silu"},
    {"fused_openai_gelu",
     [](auto& c) {
       c.transformer.activation_func = ActivationFunction::openai_gelu;
       c.transformer.bias_activation_fusion = true;
     },
     "Expected gelu or SwiGLU with bias_activation_fusion, but got openai_gelu"},
    {"unpadded_vocabulary",
     [](auto& c) {
       c.vocab_size = 127;
       c.should_pad_vocab = false;
       c.transformer.tensor_model_parallel_size = 2;
     },
     "Expected vocab_size with should_pad_vocab=false divisible by tensor_model_parallel_size (2)"},
    {"sequence_parallel", [](auto& c) { c.transformer.sequence_parallel = true; },
     "Expected tensor_model_parallel_size above 1 with sequence_parallel"},
    {"layers_over_stages", [](auto& c) { c.transformer.pipeline_model_parallel_size = 3; },
     "Expected num_layers divisible by pipeline_model_parallel_size (3), but got 4"},
    {"long_sequence", [](auto& c) { c.max_position_embeddings = 16; },
     "Expected seq_length of at most max_position_embeddings (16), but got 32"},
    {"parallel_residual_with_norms_after",
     [](auto& c) {
       c.transformer.use_parallel_residual = true;
       c.transformer.norm_placement = NormPlacement::around;
     },
     "Expected norm_placement=before with use_parallel_residual, but got around"},
    {"shared_norm_of_sequential_branches",
     [](auto& c) { c.transformer.share_parallel_layernorm = true; },
     "Expected use_parallel_residual with share_parallel_layernorm, but got none"},
    {"layer_norm_of_projections",
     [](auto& c) {
       c.transformer.qk_layernorm = true;
       c.transformer.qk_layernorm_scope = QkNormScope::projection;
     },
     "Expected normalization=RMSNorm with qk_layernorm_scope=projection"},
    {"scope_without_norm",
     [](auto& c) { c.transformer.qk_layernorm_scope = QkNormScope::per_head; },
     "Expected qk_layernorm with qk_layernorm_scope=per_head, but got none"},
    {"rms_norm_without_bias",
     [](auto& c) {
       c.transformer.normalization = Normalization::RMSNorm;
       c.transformer.layernorm_bias = false;
     },
     "Expected normalization=LayerNorm with layernorm_bias=false"},
    {"capped_linear_cross_entropy",
     [](auto& c) {
       c.transformer.cross_entropy_loss_fusion = true;
       c.transformer.cross_entropy_fusion_impl = CrossEntropyFusion::linear;
       c.transformer.final_logit_softcapping = 30;
     },
     "Expected final_logit_softcapping or cross_entropy_fusion_impl=linear, but got both"},
    {"op_fuser_without_norm",
     [](auto& c) {
       c.use_transformer_engine_op_fuser = true;
       c.transformer.norm_placement = NormPlacement::after;
     },
     "use_transformer_engine_op_fuser, but got norm_placement=after"},
    {"two_rope_scalings",
     [](auto& c) {
       c.position_embedding_type = PositionEmbeddingType::rope;
       c.rope_scaling = true;
       c.rope_dynamic_scaling_factor = 2;
     },
     "Expected one scaling of the rotary frequencies, but got rope_scaling and "
     "rope_dynamic_scaling_factor"},
    {"longrope_factors",
     [](auto& c) {
       c.position_embedding_type = PositionEmbeddingType::rope;
       c.longrope_short_factor = {1, 2};
     },
     "Expected 8 numbers above 0 (half the rotated features of a head) for longrope_short_factor"},
    {"local_base_without_window",
     [](auto& c) {
       c.position_embedding_type = PositionEmbeddingType::rope;
       c.rotary_base_local = 100;
     },
     "Expected window_size with rotary_base_local, but got none"},
    {"fp16_and_bf16", [](auto& c) { c.transformer.fp16 = c.transformer.bf16 = true; },
     "Expected bf16=true or fp16=true, but got both; leave one out"},
    {"fp8_hybrid_blocks",
     [](auto& c) {
       c.transformer.low_precision = {.fp8 = Fp8Format::hybrid, .fp8_recipe = Fp8Recipe::blockwise};
     },
     "Expected fp8=e4m3 with fp8_recipe=blockwise, which has e4m3 in both directions, but got hybrid"},
    {"fp8_of_local_layers",
     [](auto& c) {
       c.transformer.low_precision.fp8 = Fp8Format::e4m3;
       c.transformer.transformer_impl = TransformerImpl::local;
     },
     "with fp8, but got local_layer_spec, whose linear layers are in high precision"},
    {"fp8_recipe_without_fp8",
     [](auto& c) { c.transformer.low_precision.fp8_recipe = Fp8Recipe::mxfp8; },
     "Expected fp8=e4m3 with fp8_recipe, but got none"},
    {"fp8_history_of_no_step",
     [](auto& c) {
       c.transformer.low_precision = {.fp8 = Fp8Format::e4m3, .fp8_amax_history_len = 0};
     },
     "Expected fp8_amax_history_len from 1 to 65536, but got 0"},
    {"fp8_layers_in_bf16_beyond_the_model",
     [](auto& c) {
       c.transformer.low_precision = {.fp8 = Fp8Format::e4m3,
                                      .first_last_layers_bf16 = true,
                                      .num_layers_at_start_in_bf16 = 1000};
     },
     "and together at most num_layers"},
    {"fp16_of_bf16_parameters",
     [](auto& c) {
       c.transformer.fp16 = true;
       c.transformer.params_dtype = at::kBFloat16;
     },
     "Expected params_dtype fp16 or fp32 with fp16=true, but got bf16; leave one out"},
    {"yarn_options_without_yarn", [](auto& c) { c.transformer.yarn.mscale = 7; },
     "Expected position_embedding_type=yarn with the yarn_* options, but got none"},
    {"llama3_scaling_of_yarn",
     [](auto& c) {
       c.position_embedding_type = PositionEmbeddingType::yarn;
       c.rope_scaling = true;
     },
     "Expected rope_scaling or position_embedding_type=yarn, but got both"},
    {"interpolation_of_yarn",
     [](auto& c) {
       c.position_embedding_type = PositionEmbeddingType::yarn;
       c.seq_len_interpolation_factor = 4;
     },
     "leave seq_len_interpolation_factor out"},
    {"qk_clip_threshold_alone", [](auto& c) { c.transformer.qk_clip_threshold = 3; },
     "Expected qk_clip with qk_clip_threshold, but got none"},
    {"mtp_factor_alone", [](auto& c) { c.transformer.mtp.mtp_loss_scaling_factor = 3; },
     "Expected mtp_num_layers with mtp_loss_scaling_factor, but got none"},
    {"fusion_kind_alone",
     [](auto& c) { c.transformer.cross_entropy_fusion_impl = CrossEntropyFusion::linear; },
     "Expected cross_entropy_loss_fusion with cross_entropy_fusion_impl, but got none"},
    {"fp32_residual_of_fp32", [](auto& c) { c.transformer.fp32_residual_connection = true; },
     "Expected bf16=true with fp32_residual_connection, but got none"},
    {"scale_and_mup",
     [](auto& c) {
       c.transformer.softmax_scale = 0.1;
       c.transformer.mup.mup_base_head_dim = 8;
     },
     "Expected mup_base_head_dim or mup_attn_scale_power or softmax_scale, but got both"},
    {"infinite_std",
     [](auto& c) { c.transformer.init_method_std = std::numeric_limits<double>::infinity(); },
     "Expected a finite number for init_method_std, but got inf"},
    {"infinite_base",
     [](auto& c) {
       c.position_embedding_type = PositionEmbeddingType::rope;
       c.rotary_base = std::numeric_limits<double>::infinity();
     },
     "Expected a finite number for rotary_base, but got inf"},
    {"builder", [](auto& c) { c.builder = "megatron.bridge.models.GPTModelBuidler"; },
     "the nearest is megatron.bridge.models.GPTModelBuilder"},
    {"layer_spec", [](auto& c) { c.transformer_layer_spec = "local_layer_spc"; },
     "but got 'local_layer_spc'; the nearest is local_layer_spec"},
    {"full_layers_of_local_impl",
     [](auto& c) {
       c.use_transformer_engine_full_layer_spec = true;
       c.transformer.transformer_impl = TransformerImpl::local;
     },
     "Expected transformer_impl=transformer_engine with use_transformer_engine_full_layer_spec"},
    {"full_layers_of_local_spec",
     [](auto& c) {
       c.use_transformer_engine_full_layer_spec = true;
       c.transformer_layer_spec = "local_layer_spec";
     },
     "Expected transformer_layer_spec default_layer_spec with "
     "use_transformer_engine_full_layer_spec, but got local_layer_spec"},
    {"modelopt_state_of_local_spec",
     [](auto& c) {
       c.restore_modelopt_state = true;
       c.transformer_layer_spec = "local_layer_spec";
     },
     "Expected transformer_layer_spec default_layer_spec with restore_modelopt_state"},
    {"modelopt_state_of_full_layers",
     [](auto& c) { c.restore_modelopt_state = c.use_transformer_engine_full_layer_spec = true; },
     "Expected restore_modelopt_state or use_transformer_engine_full_layer_spec, but got both"},
    {"engine_spec_of_local_impl",
     [](auto& c) {
       c.transformer_layer_spec = "transformer_engine_layer_spec";
       c.transformer.transformer_impl = TransformerImpl::local;
     },
     "Expected transformer_impl=transformer_engine with transformer_engine_layer_spec"},
    {"op_fuser_of_a_spec",
     [](auto& c) {
       c.use_transformer_engine_op_fuser = true;
       c.transformer_layer_spec =
           ModuleSpec{.module = "TransformerLayer", .submodules = {{"mlp", {.module = "MLP"}}}};
     },
     "Expected a spec with TEFusedMLP with use_transformer_engine_op_fuser, but got MLP"},
    {"op_fuser_of_a_function",
     [](auto& c) {
       c.use_transformer_engine_op_fuser = true;
       c.transformer_layer_spec = [](const GPTModelConfig&) {
         return ModuleSpec{.module = "TransformerLayer",
                           .submodules = {{"mlp", {.module = "MLP"}}}};
       };
     },
     "Expected a spec with TEFusedMLP with use_transformer_engine_op_fuser, but got MLP"},
    {"arbitrary_masks_of_engine_spec", [](auto& c) { c.use_arbitrary_attention_mask = true; },
     "whose attention is causal; leave use_arbitrary_attention_mask out"},
    {"arbitrary_masks_of_split_sequences",
     [](auto& c) {
       c.restore_modelopt_state = true;
       c.use_arbitrary_attention_mask = true;
       c.transformer.context_parallel_size = 2;
     },
     "Expected context_parallel_size 1 with use_arbitrary_attention_mask, but got 2"},
    {"overlap_of_missing_linear",
     [](auto& c) {
       c.position_embedding_type = PositionEmbeddingType::rope;
       c.transformer.mla.multi_latent_attention = true;
       c.transformer.tensor_model_parallel_size = 2;
       c.transformer.sequence_parallel = c.transformer.tp_comm_overlap = true;
       c.tp_comm_overlap_cfg.entries["qkv_fprop"].method = "none";
     },
     "with multi_latent_attention, but got qkv"},
    {"more_pieces_than_tokens",
     [](auto& c) {
       c.seq_length = 4;
       c.transformer.tensor_model_parallel_size = 2;
       c.transformer.sequence_parallel = c.transformer.tp_comm_overlap = true;
       c.tp_comm_overlap_cfg.entries["proj_fprop"].num_splits = 3;
     },
     "Expected num_splits of at most 2 for proj_fprop"},
    {"negative_multiplier", [](auto& c) { c.transformer.residual_multiplier = -1; },
     "Expected residual_multiplier above 0, but got -1"},
    {"backend", [](auto& c) { c.transformer.attention_backend = AttentionBackend::flash; },
     "with attention_dropout above 0, but got flash"},
};

class ModelChecks : public testing::TestWithParam<InvalidModel> {};

TEST_P(ModelChecks, RefuseInvalidFieldsByName) {
  GPTModelConfig config = valid_config();
  EXPECT_NO_THROW(check_model(config));
  GetParam().change(config);
  EXPECT_THAT([&] { check_model(config); }, ThrowsMessage<Error>(HasSubstr(GetParam().message)));
  EXPECT_THAT([&] { check_model(config); }, ThrowsMessage<Error>(testing::Not(HasSubstr("--"))));
}

INSTANTIATE_TEST_SUITE_P(Fields, ModelChecks, testing::ValuesIn(kInvalidModels),
                         [](const auto& info) { return std::string(info.param.name); });

std::string unused_fields(const std::function<void(GPTModelConfig&)>& change) {
  GPTModelConfig config = valid_config();
  config.position_embedding_type = PositionEmbeddingType::rope;
  change(config);
  Problems problems;
  check_unused_fields(config, problems);
  try {
    problems.throw_if_any();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// Megatron ignores both.
TEST(UnusedFields, ScalingOfPositionsThatAreNotScaled) {
  EXPECT_THAT(unused_fields([](GPTModelConfig& c) {
                c.position_embedding_type = PositionEmbeddingType::yarn;
                c.seq_len_interpolation_factor = 2;
              }),
              HasSubstr("leave seq_len_interpolation_factor out"));
  EXPECT_THAT(unused_fields([](GPTModelConfig& c) {
                c.position_embedding_type = PositionEmbeddingType::mrope;
                c.rope_scaling = true;
              }),
              HasSubstr("leave rope_scaling out"));
  EXPECT_EQ(unused_fields([](GPTModelConfig& c) {
              c.rope_scaling = true;
              c.seq_len_interpolation_factor = 2;
            }),
            "");
}

TEST(UnusedFields, CanBeDropped) {
  GPTModelConfig config = valid_config();
  config.position_embedding_type = PositionEmbeddingType::yarn;
  config.rope_scaling = true;
  config.rope_scaling_factor = 2;
  config.seq_len_interpolation_factor = 4;
  config.transformer.fp32_residual_connection = true;
  config.transformer.qk_clip_threshold = 3;
  config.transformer.mtp.mtp_loss_scaling_factor = 3;
  drop_unused_fields(config);
  EXPECT_NO_THROW(check_model(config));
  EXPECT_FALSE(config.rope_scaling);
  EXPECT_EQ(config.position_embedding_type, PositionEmbeddingType::yarn);
}

TEST(GPTModelConfig, ResetLayoutKeepsThePaddedVocabulary) {
  GPTModelConfig config = valid_config();
  config.vocab_size = 1000;
  config.transformer.tensor_model_parallel_size = 4;
  config.transformer.sequence_parallel = true;
  config.transformer.pipeline.virtual_pipeline_model_parallel_size = 2;
  ASSERT_EQ(config.padded_vocab_size(), 1024);
  config.vocab_size = 1025;
  ASSERT_EQ(config.padded_vocab_size(), 1536);
  config.reset_layout();
  EXPECT_EQ(config.padded_vocab_size(), 1536);
  EXPECT_EQ(config.transformer.tensor_model_parallel_size, 1);
  EXPECT_FALSE(config.transformer.sequence_parallel);
  EXPECT_FALSE(config.transformer.pipeline.virtual_pipeline_model_parallel_size);
  EXPECT_NO_THROW(check_model(config));
}

}  // namespace
}  // namespace megatron
