// GPTModelBuilder: the documentation's example, chunks, stages, precision, wrapping.
#include "megatron/models/gpt/gpt_builder.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/models/common/builder_registry.h"
#include "megatron/parallel/model_groups.h"

#include "tests/models/gpt/small_gpt.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// Two layers per virtual stage in every layout of these tests.
GPTModelConfig built_config(int64_t pp = 1, int64_t vp = 1) {
  GPTModelConfig config = small_gpt_config();
  config.transformer.num_layers = 2 * pp * vp;
  config.transformer.pipeline_model_parallel_size = pp;
  if (vp > 1) config.transformer.pipeline.virtual_pipeline_model_parallel_size = vp;
  return config;
}

std::set<std::string> parameter_names(const GPTModel& model) {
  std::set<std::string> names;
  for (const ParameterPtr& parameter : model.parameters()) names.insert(parameter->name);
  return names;
}

bool has_embedding(const GPTModel& model) {
  return parameter_names(model).contains("embedding.word_embeddings.weight");
}
bool has_output_layer(const GPTModel& model) {
  return parameter_names(model).contains("output_layer.weight");
}

// With the sizes of the documentation, on the meta device.
TEST(GPTModelBuilderPage, TheExampleOfTheDocumentationWorks) {
  const ProcessGroupCollection pg_collection = ProcessGroupCollection::single_rank();
  TransformerConfig transformer_cfg;
  transformer_cfg.num_layers = 32;
  transformer_cfg.hidden_size = 4096;
  transformer_cfg.num_attention_heads = 32;
  const GPTModelConfig model_cfg{
      .transformer = transformer_cfg, .vocab_size = 32000, .seq_length = 2048};
  // Single stage (inference, say).
  const auto model = GPTModelBuilder(model_cfg, {.device = at::kMeta}).build_model(pg_collection);
  EXPECT_EQ(model->config().max_sequence_length(), 2048);
  EXPECT_EQ(model->output_weight()->global_shape(), (std::vector<int64_t>{32000, 4096}));
  int64_t count = 0;
  for (const ParameterPtr& parameter : model->parameters()) count += parameter->data.numel();
  EXPECT_EQ(count, count_parameters(model_cfg));
}

TEST(GPTModelBuilderPage, DistributedTrainingNeedsNoMoreArguments) {
  const ProcessGroupCollection pg_collection = ProcessGroupCollection::single_rank();
  const auto models = GPTModelBuilder(built_config()).build_distributed_models(pg_collection);
  ASSERT_EQ(models.size(), 1u);
  EXPECT_NE(models[0].data_parallel, nullptr);
  EXPECT_TRUE(has_embedding(*models[0].module));
  EXPECT_TRUE(has_output_layer(*models[0].module));
  // Weights are initialized.
  const auto want = build_gpt(built_config());
  EXPECT_TRUE(at::equal(models[0].module->output_weight()->data, want->output_weight()->data));
}

TEST(GPTModelBuilder, HoldsAFinalizedCopyOfItsConfiguration) {
  GPTModelConfig config = built_config();
  config.transformer.sequence_parallel = true;
  const GPTModelBuilder builder(config);
  EXPECT_TRUE(config.transformer.sequence_parallel);
  EXPECT_FALSE(builder.config().transformer.sequence_parallel);
  config.transformer.num_layers = 8;
  EXPECT_EQ(builder.build_model(ProcessGroupCollection::single_rank())->stage().num_layers, 2);
  config.transformer.num_attention_heads = 5;
  EXPECT_THAT([&] { GPTModelBuilder{config}; },
              ThrowsMessage<Error>(HasSubstr("num_attention_heads")));
}

TEST(GPTModelBuilder, IsFoundByItsName) {
  for (const char* name : {"megatron.bridge.models.GPTModelBuilder",
                           "megatron.bridge.models.gpt.gpt_builder.GPTModelBuilder"}) {
    GPTModelConfig config = built_config();
    config.builder = name;
    const auto builder = make_builder<GPTModel>(GPTModelConfig::from_yaml(config.to_yaml()));
    EXPECT_NE(dynamic_cast<GPTModelBuilder*>(builder.get()), nullptr);
  }
  GPTModelConfig config = built_config();
  config.builder = "megatron.bridge.models.GPTModelBuidler";
  EXPECT_THAT([&] { make_builder<GPTModel>(config); },
              ThrowsMessage<Error>(HasSubstr("nearest is megatron.bridge.models.GPTModelBuilder")));
}

TEST(GPTModelBuilder, RequiresTheVocabularySize) {
  GPTModelConfig config = built_config();
  config.vocab_size.reset();
  const GPTModelBuilder builder(config);
  const auto groups = ProcessGroupCollection::single_rank();
  const auto names_it = ThrowsMessage<Error>(
      HasSubstr("Expected vocab_size of at least 1, which is required to build a model, but got "
                "none"));
  EXPECT_THAT([&] { builder.build_model(groups); }, names_it);
  EXPECT_THAT([&] { builder.build_distributed_models(groups); }, names_it);
}

TEST(GPTModelBuilder, PadsTheVocabularyIfAsked) {
  GPTModelConfig config = built_config();
  const auto rows = [&] {
    return GPTModelBuilder(config, {.device = at::kMeta})
        .build_model(ProcessGroupCollection::single_rank())
        ->output_weight()
        ->global_shape()[0];
  };
  EXPECT_EQ(rows(), 100);
  config.should_pad_vocab = true;
  EXPECT_EQ(rows(), 128);
  config.make_vocab_size_divisible_by = 30;
  EXPECT_EQ(rows(), 120);
}

TEST(GPTModelBuilder, EveryRankHoldsItsVirtualStages) {
  const GPTModelConfig config = built_config(/*pp=*/2, /*vp=*/2);
  run_thread_world(2, [&](RankContext& rank) {
    const auto groups = make_model_groups(config, rank);
    const auto models = GPTModelBuilder(config).build_distributed_models(groups);
    ASSERT_EQ(models.size(), 2u);
    for (int chunk = 0; chunk < 2; ++chunk) {
      const GPTModel& model = *models[chunk].module;
      EXPECT_EQ(model.stage().first_layer, 2 * (2 * chunk + rank.rank));
      EXPECT_EQ(has_embedding(model), rank.rank == 0 && chunk == 0);
      EXPECT_EQ(has_output_layer(model), rank.rank == 1 && chunk == 1);
    }
  });
}

TEST(GPTModelBuilder, VpStageSelectsTheChunk) {
  const GPTModelConfig config = built_config(2, 2);
  run_thread_world(2, [&](RankContext& rank) {
    const auto groups = make_model_groups(config, rank);
    const GPTModelBuilder builder(config);
    EXPECT_EQ(builder.build_model(groups, {}, {}, 1)->stage().first_layer, 4 + 2 * rank.rank);
    EXPECT_THAT([&] { builder.build_model(groups); },
                ThrowsMessage<Error>(HasSubstr("Expected vp_stage, since a rank has 2 chunks")));
    for (const int wrong : {-1, 2})
      EXPECT_THAT(
          [&] { builder.build_model(groups, {}, {}, wrong); },
          ThrowsMessage<Error>(HasSubstr("Expected vp_stage of at least 0 and below the 2")));
  });
  const auto single = ProcessGroupCollection::single_rank();
  const GPTModelBuilder one(built_config());
  EXPECT_EQ(one.build_model(single, {}, {}, 0)->stage().num_layers, 2);
  EXPECT_THAT([&] { one.build_model(single, {}, {}, 1); },
              ThrowsMessage<Error>(HasSubstr("Expected vp_stage 0 or none")));
}

TEST(GPTModelBuilder, PreAndPostProcessCanBeGiven) {
  const GPTModelBuilder builder(built_config());
  const auto groups = ProcessGroupCollection::single_rank();
  for (const bool pre : {false, true}) {
    for (const bool post : {false, true}) {
      const auto model = builder.build_model(groups, pre, post);
      EXPECT_EQ(has_embedding(*model), pre);
      EXPECT_EQ(has_output_layer(*model), post);
    }
  }
}

TEST(GPTModelBuilder, OnlyTheFirstChunkIsDividedIntoBuckets) {
  const GPTModelConfig config = built_config(2, 2);
  run_thread_world(2, [&](RankContext& rank) {
    const auto groups = make_model_groups(config, rank);
    // The main gradients of a bucket share storage.
    const auto buckets = [&](DistributedModelArguments arguments) {
      arguments.ddp_config = DistributedDataParallelConfig{
          .bucket_size = 10,
          .overlap_grad_reduce = true,
          .overlap_param_gather = arguments.overlap_param_gather_with_optimizer_step,
          .use_distributed_optimizer = arguments.overlap_param_gather_with_optimizer_step};
      std::vector<size_t> counts;
      const auto models = GPTModelBuilder(config).build_distributed_models(groups, arguments);
      for (const auto& model : models) {
        std::set<const void*> storages;
        for (const ParameterPtr& parameter : model.module->parameters())
          storages.insert(parameter->main_grad.storage().data());
        counts.push_back(storages.size());
      }
      return counts;
    };
    const auto first_only = buckets({});
    EXPECT_GT(first_only[0], 10u);
    EXPECT_EQ(first_only[1], 1u);
    EXPECT_THAT(buckets({.overlap_param_gather_with_optimizer_step = true}), ElementsAre(1u, 1u));
  });
}

// The parameters of a model whose params_dtype is fp32 are converted by the wrapper.
TEST(GPTModelBuilder, ConvertedParametersEqualThoseCreatedInBf16) {
  GPTModelConfig config = built_config();
  config.transformer.bf16 = true;
  const auto groups = ProcessGroupCollection::single_rank();
  const auto logits = [&](const DistributedModelArguments& arguments) {
    const auto models = GPTModelBuilder(config).build_distributed_models(groups, arguments);
    return models[0].module->forward(token_input(2, 4), evaluation_context(2, 4)).detach();
  };
  // Megatron's wrapper returns fp32 from the last stage.
  const at::Tensor converted = logits({});
  EXPECT_EQ(converted.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(converted, converted.to(at::kBFloat16).to(at::kFloat)));
  EXPECT_EQ(logits({.mixed_precision_wrapper = {}}).scalar_type(), at::kFloat);
  config.transformer.params_dtype = at::kBFloat16;
  EXPECT_TRUE(at::equal(logits({}), converted));
}

TEST(GPTModelBuilder, ConvertedStagesExchangeBf16) {
  GPTModelConfig config = built_config(2);
  config.transformer.bf16 = true;
  run_thread_world(2, [&](RankContext& rank) {
    const auto models =
        GPTModelBuilder(config).build_distributed_models(make_model_groups(config, rank));
    EXPECT_EQ(models[0].module->activation_options().dtype(), at::kBFloat16);
    EXPECT_EQ(models[0].module->config().get("pipeline_dtype"), "bf16");
  });
}

TEST(GPTModelBuilder, WrapsOnTheMetaDevice) {
  const auto models = GPTModelBuilder(built_config(), {.device = at::kMeta})
                          .build_distributed_models(ProcessGroupCollection::single_rank());
  EXPECT_TRUE(models[0].module->output_weight()->data.is_meta());
}

TEST(GPTModelBuilder, HooksKeepTheOrderOfTheChunks) {
  GPTModelConfig config = built_config(2, 2);
  const auto refuses = [&](const ModelHook& hook, const char* message) {
    config.post_wrap_hooks = {hook};
    run_thread_world(2, [&](RankContext& rank) {
      const auto groups = make_model_groups(config, rank);
      EXPECT_THAT([&] { GPTModelBuilder(config).build_distributed_models(groups); },
                  ThrowsMessage<Error>(HasSubstr(message)));
    });
  };
  refuses(
      [](const ModelChunks& chunks) {
        return std::optional(ModelChunks{chunks[1], chunks[0]});
      },
      "Expected hooks and wrappers to leave the order of the chunks, but got chunk 1");
  refuses(
      [](const ModelChunks& chunks) {
        return std::optional(ModelChunks{chunks[0], chunks[0]});
      },
      "Expected different modules in the chunks from post_wrap_hooks[0]");
}

TEST(GPTModelBuilder, GroupsAreRequired) {
  const GPTModelBuilder builder(built_config());
  EXPECT_THAT([&] { builder.build_model({}); },
              ThrowsMessage<Error>(HasSubstr("Expected the group world in pg_collection")));
  EXPECT_THAT([&] { builder.build_distributed_models({}); },
              ThrowsMessage<Error>(HasSubstr("Expected the group world in pg_collection")));
}

TEST(GPTModelBuilder, GathersDuringTheStepNeedTheirPartners) {
  const auto refuses = [](const DistributedModelArguments& arguments, const char* message) {
    EXPECT_THAT(
        [&] {
          GPTModelBuilder(built_config())
              .build_distributed_models(ProcessGroupCollection::single_rank(), arguments);
        },
        ThrowsMessage<Error>(HasSubstr(message)));
  };
  const DistributedDataParallelConfig gathers{
      .overlap_grad_reduce = true, .overlap_param_gather = true, .use_distributed_optimizer = true};
  refuses({.overlap_param_gather_with_optimizer_step = true},
          "Expected overlap_param_gather=true of ddp_config");
  refuses({.ddp_config = gathers,
           .overlap_param_gather_with_optimizer_step = true,
           .wrap_with_ddp = false},
          "Expected wrap_with_ddp with overlap_param_gather_with_optimizer_step");
  refuses({.ddp_config = DistributedDataParallelConfig{.use_megatron_fsdp = true},
           .wrap_with_ddp = false},
          "Expected wrap_with_ddp with use_megatron_fsdp");
}

TEST(GPTModelBuilder, TheLocalBackendNamesTheLocalCoreAttention) {
  GPTModelConfig config = built_config();
  const auto core_attention = [&] {
    const PipelineStage stage = PipelineStage::even(2, 0, 1);
    const LayerSpec spec = resolve_layer_spec(config, stage);
    return std::get<ModuleSpec>(spec).at("self_attention.core_attention").module;
  };
  EXPECT_EQ(core_attention(), "TEDotProductAttention");
  config.transformer.attention_backend = AttentionBackend::local;
  EXPECT_EQ(core_attention(), "DotProductAttention");
}

TEST(GPTModelBuilder, KeyMapsRenameParametersOfTheirModule) {
  GPTModelConfig config = built_config();
  const auto refuses = [&](std::map<std::string, std::string> map, const char* message) {
    ModuleSpec layer = transformer_engine_layer_spec(config);
    layer.sharded_state_dict_keys_map = std::move(map);
    GPTModelConfig other = config;
    other.transformer_layer_spec = layer;
    EXPECT_THAT([&] { build_gpt(other); }, ThrowsMessage<Error>(HasSubstr(message)));
  };
  for (const char* unknown :
       {"nonsense.", "mlp.nonsense.", "mlp.linear_fc1.wieght", "input_layernorm."}) {
    refuses({{unknown, "x."}}, "begins none of self_attention.linear_proj");
  }
  refuses({{"mlp.linear_fc1.", "mlp.linear_fc2."}}, "gives two of them the name mlp.linear_fc2.");
  // In a module inside the layer, and in the final norm.
  TransformerBlockSubmodules block{
      .layer_specs = std::vector<ModuleSpec>(config.transformer.num_layers,
                                             transformer_engine_layer_spec(config)),
      .layer_norm = {.module = "TENorm", .sharded_state_dict_keys_map = {{"nonsense.", "x."}}}};
  config.transformer_layer_spec = block;
  EXPECT_THAT([&] { build_gpt(config); }, ThrowsMessage<Error>(HasSubstr("'nonsense.' begins")));
  block.layer_norm.sharded_state_dict_keys_map.clear();
  block.layer_specs[0].submodules["mlp"].sharded_state_dict_keys_map = {{"nonsense.", "x."}};
  config.transformer_layer_spec = block;
  EXPECT_THAT([&] { build_gpt(config); }, ThrowsMessage<Error>(HasSubstr("'nonsense.' begins")));
}

// A collection without a group of the experts is refused, too.
TEST(GPTModelBuilder, EveryGroupIsNeeded) {
  const GPTModelConfig config = built_config();
  for (ProcessGroupPtr ProcessGroupCollection::*group :
       {&ProcessGroupCollection::tp, &ProcessGroupCollection::dp_cp, &ProcessGroupCollection::ep,
        &ProcessGroupCollection::expt_tp, &ProcessGroupCollection::expt_dp}) {
    ProcessGroupCollection groups = ProcessGroupCollection::single_rank();
    groups.*group = nullptr;
    EXPECT_THAT([&] { GPTModelBuilder(config).build_model(groups); },
                ThrowsMessage<Error>(HasSubstr("in pg_collection, but got none")));
    EXPECT_THAT([&] { GPTModelBuilder(config).build_distributed_models(groups); },
                ThrowsMessage<Error>(HasSubstr("in pg_collection, but got none")));
  }
}

TEST(GPTModelBuilder, WeightsMayBeLeftToTheCaller) {
  GPTModelConfig config = built_config();
  config.transformer.perform_initialization = false;
  config.pre_wrap_hooks = {[](const ModelChunks& chunks) {
    for (const ModelChunk& chunk : chunks) initialize_weights(*chunk.module, /*seed=*/5);
    return std::optional(chunks);
  }};
  const auto groups = ProcessGroupCollection::single_rank();
  const auto models = GPTModelBuilder(config, {.seed = 6}).build_distributed_models(groups);
  EXPECT_TRUE(at::equal(models[0].module->output_weight()->data,
                        build_gpt(built_config(), /*seed=*/5)->output_weight()->data));
}

TEST(GPTModelBuilder, LogsChunksAndParametersOnceFromTheFirstRank) {
  const GPTModelConfig config = built_config(2, 2);
  std::vector<std::string> lines;
  run_thread_world(4, [&](RankContext& rank) {
    const GPTModelBuilder builder(config, {.logger = [&](const std::string& line) {
                                    ASSERT_EQ(rank.rank, 0);
                                    lines.push_back(line);
                                  }});
    builder.build_distributed_models(make_model_groups(config, rank));
  });
  const auto count = [&](const char* text) {
    return std::ranges::count_if(
        lines, [&](const std::string& line) { return line.find(text) != std::string::npos; });
  };
  EXPECT_EQ(count("stage 1 of 2, chunk 1 of 2: layers 1-2, embedding"), 1);
  EXPECT_EQ(count("stage 1 of 2, chunk 2 of 2: layers 5-6"), 1);
  EXPECT_EQ(count("stage 2 of 2, chunk 1 of 2: layers 3-4"), 1);
  EXPECT_EQ(count("stage 2 of 2, chunk 2 of 2: layers 7-8, output layer"), 1);
  EXPECT_EQ(count("parameters on tensor-parallel rank 0, pipeline rank 0"), 1);
  EXPECT_EQ(count("parameters on tensor-parallel rank 0, pipeline rank 1"), 1);
}

}  // namespace
}  // namespace megatron
