// The bases of configurations and builders, with a model that is no GPT.
#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/error.h"

#include "tests/models/common/bigram_model.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

const bool kBigramIsRegistered = [] {
  register_builder<BigramModelBuilder>("tests.BigramModelBuilder");
  return true;
}();

BigramModelConfig bigram_config() {
  return {.vocab_size = 5, .temperature = 2.0};
}

ProcessGroupCollection single() {
  return ProcessGroupCollection::single_rank();
}

using BigramModels = std::vector<DistributedModel<BigramModel>>;

BigramModels build_bigrams(const BigramModelConfig& config,
                           const DistributedModelArguments& arguments = {},
                           const ProcessGroupCollection& groups = single()) {
  return BigramModelBuilder(config).build_distributed_models(groups, arguments);
}

TEST(ModelBuilder, OtherModelsHaveDictionariesAndBuilders) {
  ASSERT_TRUE(kBigramIsRegistered);
  BigramModelConfig config = bigram_config();
  config.transformer.params_dtype = at::kDouble;
  const nlohmann::json json = config_as_dict(config);
  EXPECT_EQ(json["_builder_"], "tests.BigramModelBuilder");
  EXPECT_EQ(json["temperature"], 2.0);
  const auto read = config_from_dict<BigramModelConfig>(json);
  const auto model = make_builder<BigramModel>(read)->build_model(single());
  EXPECT_EQ(model->parameters().front()->data.scalar_type(), at::kDouble);
  EXPECT_EQ(model->forward(at::arange(1, 4, at::kLong).view({1, 3})).sizes(),
            (std::vector<int64_t>{1, 3, 5}));
}

TEST(BuilderRegistry, UnknownNamesAndOtherTypesAreErrors) {
  EXPECT_EQ(get_builder("tests.BigramModelBuilder").name, "tests.BigramModelBuilder");
  EXPECT_EQ(get_builder("megatron.bridge.models.GPTModelBuilder").name,
            "megatron.bridge.models.GPTModelBuilder");
  EXPECT_THAT([] { get_builder("tests.BigramBuilder"); },
              ThrowsMessage<Error>(HasSubstr("the nearest is tests.BigramModelBuilder")));
  BigramModelConfig config = bigram_config();
  config.builder = "megatron.bridge.models.GPTModelBuilder";
  EXPECT_THAT([&] { make_builder<BigramModel>(config); },
              ThrowsMessage<Error>(HasSubstr("which is for others")));
  EXPECT_THAT([] { register_builder<BigramModelBuilder>("tests.BigramModelBuilder"); },
              ThrowsMessage<Error>(HasSubstr("Expected a new name")));
}

TEST(DistributedModels, AreWrappedByDefault) {
  const BigramModels models = build_bigrams(bigram_config());
  ASSERT_EQ(models.size(), 1u);
  ASSERT_NE(models[0].data_parallel, nullptr);
  EXPECT_EQ(models[0].data_parallel->owned_slices().size(), 2u);
  for (const ParameterPtr& parameter : models[0].module->parameters()) {
    EXPECT_TRUE(parameter->main_grad.defined());
    // A parameter is replicated unless its layer says otherwise.
    EXPECT_EQ(parameter->sharding.partition_dim, -1);
    EXPECT_EQ(parameter->sharding.partition_stride, 1);
  }
  const BigramModels plain = build_bigrams(bigram_config(), {.wrap_with_ddp = false});
  EXPECT_EQ(plain[0].data_parallel, nullptr);
  EXPECT_FALSE(plain[0].module->parameters()[0]->main_grad.defined());
}

TEST(DistributedModels, GradientsAreSumsOverTheRanks) {
  run_thread_world(2, [](RankContext& rank) {
    const auto groups = rank.make_groups({.dp = 2});
    const BigramModels models = build_bigrams(bigram_config(), {}, groups);
    DistributedDataParallel& ddp = *models[0].data_parallel;
    ddp.zero_gradients();
    models[0].module->forward(at::full({1, 1}, rank.rank, at::kLong)).sum().backward();
    ddp.finish_gradients();
    const at::Tensor rows = models[0].module->parameters()[0]->main_grad.sum(1);
    EXPECT_THAT(std::vector<float>(rows.data_ptr<float>(), rows.data_ptr<float>() + 5),
                ElementsAre(2.5f, 2.5f, 0, 0, 0));
  });
}

TEST(DistributedModels, EveryShardingIsSelectedByTheArguments) {
  run_thread_world(2, [](RankContext& rank) {
    const auto groups = rank.make_groups({.dp = 2});
    const auto is_sharded = [&](const DistributedModelArguments& arguments) {
      return build_bigrams(bigram_config(), arguments, groups)[0].data_parallel->is_sharded();
    };
    EXPECT_FALSE(is_sharded({}));
    EXPECT_TRUE(is_sharded(
        {.ddp_config = DistributedDataParallelConfig{.use_distributed_optimizer = true}}));
    EXPECT_TRUE(is_sharded(
        {.ddp_config =
             DistributedDataParallelConfig{.data_parallel_sharding_strategy =
                                               DataParallelShardingStrategy::optim_grads_params},
         .use_megatron_fsdp = true}));
    EXPECT_TRUE(is_sharded({.use_torch_fsdp2 = true}));
  });
}

TEST(DistributedModels, ContradictionsAreRefused) {
  const auto refuses = [](const DistributedModelArguments& arguments, const char* message) {
    EXPECT_THAT([&] { build_bigrams(bigram_config(), arguments); },
                ThrowsMessage<Error>(HasSubstr(message)));
  };
  refuses({.use_megatron_fsdp = true, .use_torch_fsdp2 = true},
          "Expected use_megatron_fsdp=true or use_torch_fsdp2=true, but got both");
  refuses({.ddp_config = DistributedDataParallelConfig{.use_megatron_fsdp = true},
           .use_torch_fsdp2 = true},
          "but got both");
  refuses({.use_megatron_fsdp = true, .wrap_with_ddp = false},
          "Expected wrap_with_ddp with use_megatron_fsdp");
  refuses({.use_torch_fsdp2 = true, .wrap_with_ddp = false},
          "Expected wrap_with_ddp with use_torch_fsdp2");
  for (const ModelType type :
       {ModelType::encoder_and_decoder, ModelType::retro_encoder, ModelType::retro_decoder})
    refuses({.model_type = type}, "Expected model_type encoder_or_decoder");
}

// The initial weights of the ranks differ only if something changes them, as a hook here.
TEST(DistributedModels, RankZeroBroadcastsItsParameters) {
  const DataParallelShardingStrategy strategies[] = {
      DataParallelShardingStrategy::no_shard, DataParallelShardingStrategy::optim,
      DataParallelShardingStrategy::optim_grads, DataParallelShardingStrategy::optim_grads_params};
  for (size_t i = 0; i <= std::size(strategies); ++i) {
    const bool torch_fsdp2 = i == std::size(strategies);
    for (const bool broadcasts : {true, false}) {
      run_thread_world(2, [&](RankContext& rank) {
        SCOPED_TRACE(fmt::format("strategy {}, rank {}", i, rank.rank));
        const auto groups = rank.make_groups({.dp = 2});
        BigramModelConfig config = bigram_config();
        config.pre_wrap_hooks = {[&](const ModelChunks& chunks) {
          const at::NoGradGuard no_grad;
          for (const ParameterPtr& parameter : chunks[0].module->parameters())
            parameter->data.add_(rank.rank);
          return std::optional(chunks);
        }};
        DistributedModelArguments arguments{.data_parallel_random_init = broadcasts};
        arguments.ddp_config.emplace();
        arguments.ddp_config->use_torch_fsdp2 = torch_fsdp2;
        arguments.ddp_config->use_megatron_fsdp = !torch_fsdp2;
        if (!torch_fsdp2) arguments.ddp_config->data_parallel_sharding_strategy = strategies[i];
        const BigramModels models = build_bigrams(config, arguments, groups);
        const at::Tensor want =
            BigramModelBuilder(bigram_config()).build_model(single())->parameters()[0]->data;
        models[0].data_parallel->unshard_parameters();
        const at::Tensor got = models[0].module->parameters()[0]->data;
        // Without the broadcast rank 1 keeps its own values, or gathers them from its shard.
        if (broadcasts || rank.rank == 1) {
          EXPECT_EQ(at::equal(got, want), broadcasts);
        }
      });
    }
  }
}

TEST(DistributedModels, Float16ModuleConvertsUnlessMarked) {
  BigramModelConfig config = bigram_config();
  config.transformer.bf16 = true;
  const auto dtypes = [&](const DistributedModelArguments& arguments) {
    std::vector<at::ScalarType> result;
    for (const ParameterPtr& parameter : build_bigrams(config, arguments)[0].module->parameters())
      result.push_back(parameter->data.scalar_type());
    return result;
  };
  EXPECT_THAT(dtypes({}), ElementsAre(at::kBFloat16, at::kFloat));
  EXPECT_THAT(dtypes({.mixed_precision_wrapper = {}}), ElementsAre(at::kFloat, at::kFloat));
  int calls = 0;
  const MixedPrecisionWrapper own = [&](const TransformerConfig& transformer,
                                        std::shared_ptr<MegatronModule> module) {
    EXPECT_TRUE(transformer.bf16);
    ++calls;
    module->convert_parameters(at::kDouble);
    return module;
  };
  EXPECT_THAT(dtypes({.mixed_precision_wrapper = own}), ElementsAre(at::kDouble, at::kFloat));
  EXPECT_EQ(calls, 1);
  config.transformer.bf16 = false;
  EXPECT_THAT(dtypes({.mixed_precision_wrapper = own}), ElementsAre(at::kFloat, at::kFloat));
  EXPECT_EQ(calls, 1);
  EXPECT_THAT([] { Float16Module(TransformerConfig(), nullptr); },
              ThrowsMessage<Error>(HasSubstr("Expected bf16=true or fp16=true for Float16Module")));
  config.transformer.bf16 = true;
  EXPECT_THAT(
      [&] {
        build_bigrams(config, {.mixed_precision_wrapper = [](const TransformerConfig&,
                                                             std::shared_ptr<MegatronModule>) {
                        return std::shared_ptr<MegatronModule>();
                      }});
      },
      ThrowsMessage<Error>(HasSubstr("from mixed_precision_wrapper, but got null")));
}

// Steps in the order in which they run, by what each hook sees.
TEST(ModelHooks, RunInOrderAroundTheWrapper) {
  std::vector<std::string> seen;
  BigramModelConfig config = bigram_config();
  config.transformer.bf16 = true;
  const auto hook = [&](const char* name) -> ModelHook {
    return [&seen, name](const ModelChunks& chunks) {
      const at::ScalarType dtype = chunks[0].module->parameters()[0]->data.scalar_type();
      seen.push_back(fmt::format("{} {} {}", name, dtype == at::kFloat ? "fp32" : "bf16",
                                 chunks[0].data_parallel ? "wrapped" : "plain"));
      return std::optional(chunks);
    };
  };
  config.pre_wrap_hooks = {hook("a"), hook("b")};
  config.post_wrap_hooks = {hook("c"), hook("d")};
  build_bigrams(config);
  EXPECT_THAT(seen,
              ElementsAre("a fp32 plain", "b fp32 plain", "c bf16 wrapped", "d bf16 wrapped"));
  BigramModelBuilder(config).build_model(single());  // runs no hook
  EXPECT_EQ(seen.size(), 4u);
}

TEST(ModelHooks, AResultReplacesTheChunksForThoseThatFollow) {
  BigramModelConfig config = bigram_config();
  const auto other = BigramModelBuilder(bigram_config(), {.seed = 9}).build_model(single());
  config.pre_wrap_hooks = {
      [&](const ModelChunks&) { return std::optional(ModelChunks{{.module = other}}); },
      [&](const ModelChunks& chunks) {
        EXPECT_EQ(chunks[0].module, other);
        return std::optional(chunks);
      }};
  EXPECT_EQ(build_bigrams(config)[0].module, other);
}

TEST(ModelHooks, WithoutAResultTheChunksStayWithAWarning) {
  BigramModelConfig config = bigram_config();
  config.pre_wrap_hooks = {[](const ModelChunks& chunks) -> std::optional<ModelChunks> {
    const at::NoGradGuard no_grad;
    chunks[0].module->parameters()[0]->data.fill_(3);
    return std::nullopt;
  }};
  std::vector<std::string> lines;
  const BigramModelBuilder builder(
      config, {.logger = [&](const std::string& line) { lines.push_back(line); }});
  const auto models = builder.build_distributed_models(single());
  EXPECT_EQ(models[0].module->parameters()[0]->data[0][0].item<float>(), 3);
  EXPECT_THAT(lines, testing::Contains(HasSubstr("warning: pre_wrap_hooks[0] returned no chunks")));
  testing::internal::CaptureStderr();
  build_bigrams(config);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("warning: pre_wrap_hooks[0]"));
}

TEST(ModelHooks, BadHooksAreErrors) {
  const auto refuses = [](ModelHook hook, const char* message) {
    BigramModelConfig config = bigram_config();
    config.post_wrap_hooks = {std::move(hook)};
    EXPECT_THAT([&] { build_bigrams(config); }, ThrowsMessage<Error>(HasSubstr(message)));
  };
  refuses(nullptr, "Expected a callable as post_wrap_hooks[0]");
  refuses([](const ModelChunks&) { return std::optional(ModelChunks{}); },
          "Expected 1 model chunk from post_wrap_hooks[0], but got 0");
  refuses([](const ModelChunks&) { return std::optional(ModelChunks(1)); }, "but got null");
  struct Other : MegatronModule {};
  refuses(
      [](const ModelChunks&) {
        return std::optional(ModelChunks{{.module = std::make_shared<Other>()}});
      },
      "the builder's type of model, but got another");
  BigramModelConfig config = bigram_config();
  config.pre_wrap_hooks = {[](const ModelChunks&) {
    return std::optional(ModelChunks{{.module = std::make_shared<Other>()}});
  }};
  EXPECT_THAT([&] { build_bigrams(config); },
              ThrowsMessage<Error>(HasSubstr("Expected a module with module_groups()")));
}

TEST(BuilderLog, CountsParametersOnceFromTheFirstRank) {
  std::vector<std::string> lines;
  run_thread_world(2, [&](RankContext& rank) {
    const BigramModelBuilder builder(bigram_config(), {.logger = [&](const std::string& line) {
                                       ASSERT_EQ(rank.rank, 0);
                                       lines.push_back(line);
                                     }});
    builder.build_distributed_models(rank.make_groups({.dp = 2}));
  });
  EXPECT_THAT(lines, ElementsAre(HasSubstr("tensor-parallel rank 0, pipeline rank 0: 26 (")));
}

}  // namespace
}  // namespace megatron
