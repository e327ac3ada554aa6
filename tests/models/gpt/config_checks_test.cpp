// Fields that validation refuses on the command line are refused by the constructors too.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/parallel/model_groups.h"

#include "tests/models/gpt/small_gpt.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

struct RefusedField {
  const char* name;
  std::function<void(GPTModelConfig&)> change;
};

const RefusedField kRefusedFields[] = {
    {"cross_entropy_fusion_impl",
     [](GPTModelConfig& c) {
       c.transformer.cross_entropy_loss_fusion = true;
       c.transformer.cross_entropy_fusion_impl = CrossEntropyFusion::te;
     }},
    {"cuda_graph_impl",
     [](GPTModelConfig& c) { c.transformer.cuda_graph_impl = CudaGraphImpl::local; }},
    {"pipeline_dtype", [](GPTModelConfig& c) { c.transformer.pipeline_dtype = at::kBFloat16; }},
    {"qk_clip_alpha", [](GPTModelConfig& c) { c.transformer.qk_clip_alpha = 1; }},
    {"bf16",
     [](GPTModelConfig& c) {
       c.transformer.bf16 = true;
       c.transformer.params_dtype = at::kDouble;
     }},
};

TEST(ModelConstructors, RefuseUnsupportedFields) {
  for (const RefusedField& field : kRefusedFields) {
    GPTModelConfig config = small_gpt_config();
    field.change(config);
    const auto groups = ProcessGroupCollection::single_rank();
    const auto names_it = ThrowsMessage<Error>(HasSubstr(field.name));
    EXPECT_THAT([&] { build_gpt(config); }, names_it);
    EXPECT_THAT([&] { build_gpt_model_chunks(config, groups, at::kCPU); }, names_it);
    EXPECT_THAT(
        [&] {
          GPTModel(config, local_layer_spec(config.transformer), PipelineStage::even(2, 0, 1),
                   groups, at::kFloat);
        },
        names_it);
    EXPECT_THAT(
        [&] {
          TransformerBlock(config.transformer, local_layer_spec(config.transformer),
                           PipelineStage::even(2, 0, 1),
                           LayerOptions{.tensor = at::kFloat, .tp = groups.tp});
        },
        names_it);
  }
}

TEST(ModelConstructors, RefuseAModelWithoutVocabulary) {
  GPTModelConfig config = small_gpt_config();
  config.vocab_size.reset();
  EXPECT_THAT([&] { build_gpt(config); },
              ThrowsMessage<Error>(HasSubstr("vocab_size of at least 1")));
}

// Heads and the padded vocabulary are computed from the configuration, weights are sharded by the
// groups.
TEST(ModelConstructors, RefuseSizesThatDifferFromTheGroups) {
  GPTModelConfig config = small_gpt_config();
  run_thread_world(2, [&](RankContext& rank) {
    const auto build = [&](const char* field, TransformerConfig of_groups) {
      EXPECT_THAT(
          [&] { build_gpt_model_chunks(config, make_model_groups(of_groups, rank), at::kCPU); },
          ThrowsMessage<Error>(AllOf(
              HasSubstr(field), HasSubstr("to be the size of its process group (2), but got 1"))));
    };
    TransformerConfig other = config.transformer;
    other.tensor_model_parallel_size = 2;
    build("tensor_model_parallel_size", other);
    other = config.transformer;
    other.pipeline_model_parallel_size = 2;
    build("pipeline_model_parallel_size", other);
    other = config.transformer;
    other.context_parallel_size = 2;
    build("context_parallel_size", other);
  });
}

}  // namespace
}  // namespace megatron
