// The checks of a model's configuration, as the constructors call them: messages name fields.
#include "megatron/config/model/model_checks.h"

#include <functional>
#include <gmock/gmock.h>

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
     "Expected expert_model_parallel_size 1, but got 2"},
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
