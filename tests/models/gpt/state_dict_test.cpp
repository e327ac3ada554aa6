// Parameter names and shapes, and sharded state.
#include <filesystem>
#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/checkpoint/save_checkpoint.h"
#include "megatron/config/validate/validate.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/parity/parity_case.h"

#include "tests/models/gpt/built_model.h"
#include "tests/models/gpt/small_gpt.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

// One golden case per configuration that changes parameter names or shapes.
constexpr const char* kGoldenCases[] = {"gpt2",
                                        "gpt2_bf16",
                                        "gpt2_deep",
                                        "gpt2_bias_gelu_fusion",
                                        "gpt2_mup_tied",
                                        "gpt2_post_ln_residual",
                                        "llama",
                                        "llama_bf16",
                                        "llama_deep",
                                        "llama_attention_output_gate",
                                        "llama_gptoss_glu",
                                        "llama_mha",
                                        "llama_mrope",
                                        "llama_mup",
                                        "llama_no_rope_freq2",
                                        "llama_qk_clip",
                                        "llama_qk_layernorm",
                                        "llama_qkv_bias",
                                        "llama_rope_scaling_l31",
                                        "llama_rotary_percent_half",
                                        "llama_softmax_learnable",
                                        "llama_softmax_scale",
                                        "llama_squared_relu",
                                        "llama_window",
                                        "llama_yarn",
                                        "mla",
                                        "mla_no_q_lora",
                                        "mla_yarn",
                                        "mtp1",
                                        "mtp2"};

// Golden files come from megatron-core's local layers and use module names. Its checkpoints keep an
// older name for MTP's inner layer, and name norms after the linear layers that consume them.
std::string checkpoint_key_of(std::string name, bool latent_attention) {
  const auto replace = [&](std::string_view from, std::string_view to) {
    const size_t position = name.find(from);
    if (position != std::string::npos) name.replace(position, from.size(), to);
  };
  replace("mtp_model_layer", "transformer_layer");
  replace(".pre_mlp_layernorm.", ".mlp.linear_fc1.layer_norm_");
  if (latent_attention) {
    replace(".q_layernorm.", ".linear_q_up_proj.layer_norm_");
    replace(".kv_layernorm.", ".linear_kv_up_proj.layer_norm_");
  } else {
    replace(".input_layernorm.", ".self_attention.linear_qkv.layer_norm_");
  }
  return name;
}

class ShardedStateNames : public testing::TestWithParam<const char*> {};

TEST_P(ShardedStateNames, MatchMegatron) {
  const auto golden =
      ParityCase::open(std::string(TEST_DATA_DIR "/megatron_core/") + GetParam() + ".json");
  Options options;
  golden.configure(options, /*keep_params_dtype=*/false);
  validate(options, /*world_size=*/1, Command::parity);
  const auto key_of = [&](const std::string& name) {
    return checkpoint_key_of(name, options.model.transformer.mla.multi_latent_attention);
  };
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const ShardedTensor& tensor :
       build_gpt_model(options.model, ProcessGroupCollection::single_rank(), at::kMeta)
           ->sharded_state_dict()) {
    shapes[tensor.key] = tensor.global_shape;
  }
  std::vector<std::string> names, theirs;
  for (const auto& [name, shape] : shapes) names.push_back(name);
  for (const std::string& tensor : golden.tensor_names()) {
    if (tensor.starts_with("grad/")) theirs.push_back(key_of(tensor.substr(5)));
  }
  // Files without gradients list their parameters here.
  const auto statistics = golden.json().value("weight_after3", nlohmann::json::object());
  for (const auto& [name, numbers] : statistics.items()) {
    if (std::ranges::find(theirs, key_of(name)) == theirs.end()) theirs.push_back(key_of(name));
  }
  std::ranges::sort(theirs);
  EXPECT_EQ(names, theirs);
  for (const std::string& tensor : golden.tensor_names()) {
    if (!tensor.starts_with("grad/")) continue;
    const std::string name = key_of(tensor.substr(5));
    EXPECT_EQ(shapes[name], golden.tensor(tensor).sizes().vec()) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(GoldenCases, ShardedStateNames, testing::ValuesIn(kGoldenCases),
                         [](const auto& info) { return std::string(info.param); });

std::vector<std::string> keys_of(const ShardedStateDict& state) {
  std::vector<std::string> keys;
  for (const ShardedTensor& tensor : state) keys.push_back(tensor.key);
  return keys;
}

GPTModelConfig tied_config(int64_t tp, int64_t pp) {
  GPTModelConfig config = small_gpt_config();
  config.share_embeddings_and_output_weights = true;
  config.transformer.tensor_model_parallel_size = tp;
  config.transformer.pipeline_model_parallel_size = pp;
  return config;
}

TEST(ShardedState, ContainsExactlyTheParameters) {
  const auto model = build_gpt(small_gpt_config());
  const ShardedStateDict state = model->sharded_state_dict("model.");
  EXPECT_EQ(state.size(), model->parameters().size());
  EXPECT_THAT(keys_of(state), testing::Each(testing::StartsWith("model.")));
  EXPECT_THAT(keys_of(state), testing::Each(testing::Not(HasSubstr("_extra_state"))));
  for (const ShardedTensor& tensor : state) {
    EXPECT_EQ(tensor.replica_id, 0);
    EXPECT_EQ(tensor.allow_shape_mismatch,
              tensor.key == "model.output_layer.weight" ||
                  tensor.key == "model.embedding.word_embeddings.weight");
  }
}

TEST(ShardedState, RefusesOffsets) {
  const auto model = build_gpt(small_gpt_config());
  EXPECT_THAT(
      [&] { model->sharded_state_dict("", {{.axis = 0, .offset = 1, .count = 2}}); },
      ThrowsMessage<Error>(HasSubstr("no sharded offsets for a language model, but got 1")));
}

TEST(ShardedState, MetadataSelectsTheReplicaGroup) {
  run_thread_world(2, [&](RankContext& rank) {
    const auto model =
        build_gpt(tied_config(1, 1), 1, make_model_groups(tied_config(1, 1).transformer, rank));
    const auto replicas = [&](const ShardedStateDictMetadata& metadata) {
      return model->sharded_state_dict("", {}, metadata).front().replica_id;
    };
    EXPECT_EQ(replicas({}), rank.rank);
    EXPECT_EQ(replicas({.dp_cp_group = ProcessGroupCollection::single_rank().dp_cp}), 0);
  });
}

TEST(TiedState, CopyUsesTheKeyOfTheFirstStage) {
  run_thread_world(4, [](RankContext& rank) {
    const GPTModelConfig config = tied_config(2, 2);
    const auto model = build_gpt(config, 1, make_model_groups(config.transformer, rank));
    const ShardedStateDict state = model->sharded_state_dict();
    EXPECT_THAT(keys_of(state), testing::Not(testing::Contains("output_layer.weight")));
    for (const ShardedTensor& tensor : state) {
      if (tensor.key != "embedding.word_embeddings.weight") continue;
      EXPECT_EQ(tensor.replica_id, model->stage().pre_process ? 0 : 1);
      EXPECT_TRUE(tensor.allow_shape_mismatch);
      EXPECT_EQ(tensor.global_shape, (std::vector<int64_t>{100, 12}));
      EXPECT_EQ(tensor.global_offset[0], 50 * model->groups().tp->rank());
    }
    EXPECT_TRUE(contains_key(state, "embedding.word_embeddings.weight"));
  });
}

TEST(TiedState, MissingOrUnexpectedWeightIsAnError) {
  const auto tie = [](const LanguageModule& model, ShardedStateDict& state) {
    model.tie_embeddings_and_output_weights_state_dict(state, "output_layer.weight",
                                                       "embedding.word_embeddings.weight");
  };
  run_thread_world(2, [&](RankContext& rank) {
    const GPTModelConfig config = tied_config(1, 2);
    const auto model = build_gpt(config, 1, make_model_groups(config.transformer, rank));
    ShardedStateDict state = model->sharded_state_dict();
    if (model->stage().post_process) {
      EXPECT_THAT([&] { tie(*model, state); },
                  ThrowsMessage<Error>(HasSubstr("Expected output_layer.weight in the state")));
    } else {
      EXPECT_NO_THROW(tie(*model, state));
      state.push_back({.key = "output_layer.weight"});
      EXPECT_THAT([&] { tie(*model, state); },
                  ThrowsMessage<Error>(HasSubstr("Expected no output_layer.weight")));
    }
  });
  const auto alone = build_gpt(tied_config(1, 1));
  ShardedStateDict state = alone->sharded_state_dict();
  const size_t entries = state.size();
  tie(*alone, state);
  EXPECT_EQ(state.size(), entries) << "the output layer uses the embedding itself";
}

TEST(TiedState, IsSavedOnceAndLoadedIntoEveryCopy) {
  const auto root =
      std::filesystem::temp_directory_path() / fmt::format("megatron_tied_state_{}", ::getpid());
  const auto saved = build_gpt(tied_config(1, 1), /*seed=*/7);
  run_thread_world(4, [&](RankContext& rank) {
    const GPTModelConfig config = tied_config(2, 2);
    const auto model = build_gpt(config, 7, make_model_groups(config.transformer, rank));
    save_checkpoint(root, 1, model->sharded_state_dict(), nlohmann::json::object(),
                    *model->groups().world);
  });
  run_thread_world(2, [&](RankContext& rank) {
    const GPTModelConfig config = tied_config(1, 2);
    const auto model = build_gpt(config, 8, make_model_groups(config.transformer, rank));
    auto reader = CheckpointReader::open(root);
    reader.load(model->sharded_state_dict());
    const at::Tensor expected = saved->shared_embedding_or_output_weight()->data;
    EXPECT_TRUE(model->shared_embedding_or_output_weight()->data.equal(expected));
  });
  std::filesystem::remove_all(root);
}

TEST(SharedEmbedding, IsOnTheFirstAndTheLastStage) {
  run_thread_world(4, [](RankContext& rank) {
    GPTModelConfig config = tied_config(1, 4);
    config.transformer.num_layers = 4;
    const auto model = build_gpt(config, 3, make_model_groups(config.transformer, rank));
    const bool ends = rank.rank == 0 || rank.rank == 3;
    EXPECT_EQ(model->is_in_embd_group(), ends);
    const ParameterPtr weight = model->shared_embedding_or_output_weight();
    EXPECT_EQ(weight != nullptr, ends);
    if (!ends) return;
    EXPECT_TRUE(weight->shared_embedding && weight->is_embedding_or_output_parameter &&
                weight->is_embedding_parameter);
    EXPECT_EQ(weight->shared, rank.rank == 3);
    // Synchronization overwrites the copy with the first stage's values, which stay unchanged.
    const at::Tensor before = weight->data.detach().clone();
    if (rank.rank == 3) {
      const at::NoGradGuard no_grad;
      weight->data.fill_(17);
    }
    model->synchronize_shared_embedding();
    EXPECT_TRUE(weight->data.equal(before));
  });
}

TEST(SharedEmbedding, SingleStageHasNoCopies) {
  for (const bool tied : {true, false}) {
    GPTModelConfig config = small_gpt_config();
    config.share_embeddings_and_output_weights = tied;
    const auto model = build_gpt(config);
    EXPECT_TRUE(model->is_in_embd_group());
    EXPECT_EQ(model->shared_embedding_or_output_weight()->name, "embedding.word_embeddings.weight");
    for (const ParameterPtr& parameter : model->parameters())
      EXPECT_FALSE(parameter->shared || parameter->shared_embedding) << parameter->name;
  }
}

TEST(SharedEmbedding, CopyWithoutEmbeddingGroupIsAnError) {
  const GPTModelConfig config = tied_config(1, 1);
  ProcessGroupCollection groups = ProcessGroupCollection::single_rank();
  groups.embd = nullptr;
  GPTModel last(config, local_layer_spec(config.transformer),
                {.rank = 1,
                 .size = 2,
                 .pre_process = false,
                 .post_process = true,
                 .first_layer = 1,
                 .num_layers = 1},
                groups, at::TensorOptions().dtype(at::kFloat));
  EXPECT_FALSE(last.is_in_embd_group());
  EXPECT_THAT([&] { initialize_weights(last, 1); },
              ThrowsMessage<Error>(HasSubstr("Expected an embedding group on pipeline stage 1")));
}

}  // namespace
}  // namespace megatron
