// Options as JSON, fields by Megatron's Python names, differences and the hash.
#include "megatron/config/options/options_json.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "megatron/config/model/fixed_fields.h"
#include "megatron/config/options/command_line.h"
#include "megatron/config/options/option_table.h"

#include "tests/config/usage_message.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

// Options with every field different from its default.
Options changed_options() {
  Options options;
  for (const Option& option : option_table().options()) {
    if (option.is_shorthand()) continue;
    const FieldValue value = option.value(options);
    nlohmann::json json = to_json(value);
    if (is_bool(value)) {
      json = !json.get<bool>();
    } else if (std::holds_alternative<std::optional<bool>*>(value)) {
      json = true;
    } else if (is_number(value)) {
      json = json.is_null()             ? 3
             : json.is_number_integer() ? json.get<int64_t>() + 1
                                        : json.get<double>() + 0.1;
      if (json.is_number_float() && std::holds_alternative<std::optional<int64_t>*>(value))
        json = 3;
    } else if (is_list(value)) {
      const bool numbers = !std::holds_alternative<std::vector<std::string>*>(value);
      json = numbers ? nlohmann::json{7, 0} : nlohmann::json{"x", "y z"};
    } else if (const auto* reference = std::get_if<EnumReference>(&value)) {
      json = std::string(reference->names.back() == json ? reference->names.front()
                                                         : reference->names.back());
    } else if (std::holds_alternative<std::string*>(value)) {
      const auto& choices = option.choices;
      const std::string last = choices.empty() ? "text \"quoted\"" : choices.back();
      json = last == json ? choices.front() : last;
    } else {
      json = "fp64";
    }
    set_from_json(value, json, option.name());
  }
  return options;
}

TEST(OptionsJson, RoundTripKeepsEveryField) {
  const Options changed = changed_options();
  const nlohmann::json json = to_json(changed);
  const nlohmann::json defaults = to_json(Options{});
  EXPECT_EQ(json.size(), option_table().fields().size());
  for (const auto& field : option_table().fields())
    EXPECT_NE(json[field], defaults[field]) << field;
  EXPECT_EQ(to_json(from_json(nlohmann::json::parse(json.dump()))), json);
  EXPECT_EQ(to_json(from_json(defaults)), defaults);
  EXPECT_EQ(to_json(from_json(nlohmann::json::object())), defaults);
}

TEST(OptionsJson, DoublesSurviveExactly) {
  Options options;
  options.optimizer.lr = 0.1 + 0.2;
  options.optimizer.adam_eps = 1e-300;
  const Options back = from_json(nlohmann::json::parse(to_json(options).dump()));
  EXPECT_EQ(back.optimizer.lr, 0.1 + 0.2);
  EXPECT_EQ(back.optimizer.adam_eps, 1e-300);
}

TEST(OptionsJson, OfASubcommandHoldsItsOptionsOnly) {
  const nlohmann::json json = to_json(Options{}, commands(Command::train));
  EXPECT_TRUE(json.contains("num_layers"));
  EXPECT_FALSE(json.contains("prompt"));
}

TEST(OptionsJson, RefusesUnknownFieldsAndTypes) {
  EXPECT_THAT(message_of([] {
                from_json({{"num_layer", 3}});
              }),
              HasSubstr("'num_layer'; the nearest is num_layers"));
  EXPECT_THAT(message_of([] {
                from_json({{"num_layers", "3"}});
              }),
              HasSubstr("an integer for num_layers"));
  EXPECT_THAT(message_of([] {
                from_json({{"num_layers", 1.5}});
              }),
              HasSubstr("an integer for num_layers"));
  EXPECT_THAT(message_of([] { from_json({{"bf16", 1}}); }), HasSubstr("true or false for bf16"));
  EXPECT_THAT(message_of([] { from_json({{"lr", "x"}}); }), HasSubstr("a number for lr"));
  EXPECT_THAT(message_of([] { from_json({{"data_path", 5}}); }), HasSubstr("a list for data_path"));
  EXPECT_THAT(message_of([] {
                from_json({{"device", "tpu"}});
              }),
              HasSubstr("cpu, cuda for device"));
  EXPECT_THAT(message_of([] { from_json(nlohmann::json::array()); }),
              HasSubstr("as a JSON object"));
}

TEST(SetField, AcceptsTheFieldsOfAMegatronCase) {
  Options options;
  const nlohmann::json fields = {{"num_layers", 2},
                                 {"num_query_groups", 2},
                                 {"activation_func", "silu"},
                                 {"gated_linear_unit", true},
                                 {"normalization", "RMSNorm"},
                                 {"add_bias_linear", false},
                                 {"layernorm_epsilon", 1e-5},
                                 {"bf16", true},
                                 {"params_dtype", "torch.bfloat16"},
                                 {"pipeline_dtype", "torch.bfloat16"},
                                 {"max_sequence_length", 32},
                                 {"position_embedding_type", "rope"},
                                 {"rotary_base", 10000},
                                 {"share_embeddings_and_output_weights", false},
                                 {"seq_len_interpolation_factor", 2.0},
                                 {"rope_scaling", true},
                                 {"optimizer", "sgd"},
                                 {"lr", 0.01},
                                 {"sgd_momentum", 0.9},
                                 {"grad_reduce_in_fp32", true},
                                 {"softmax_scale", 0.2},
                                 {"attention_softmax_in_fp32", true},
                                 {"bias_activation_fusion", false}};
  for (const auto& [field, value] : fields.items()) set_field(options, field, value);
  const auto& t = options.model.transformer;
  EXPECT_EQ(t.activation_func, ActivationFunction::silu);
  EXPECT_FALSE(t.add_bias_linear);
  EXPECT_EQ(t.params_dtype, at::kBFloat16);
  EXPECT_EQ(t.pipeline_dtype, at::kBFloat16);
  EXPECT_EQ(options.model.max_position_embeddings, 32);
  EXPECT_EQ(options.model.rotary_base, 10000.0);
  EXPECT_FALSE(options.model.share_embeddings_and_output_weights);
  EXPECT_EQ(options.model.seq_len_interpolation_factor, 2.0);
  EXPECT_TRUE(options.model.rope_scaling);
  EXPECT_EQ(options.optimizer.optimizer, OptimizerType::sgd);
  EXPECT_EQ(t.softmax_scale, 0.2);
}

TEST(SetField, NullMeansTheDefault) {
  Options options;
  options.model.transformer.kv_channels = 3;
  options.optimizer.lr = 5;
  options.data.data_path = {"x"};
  options.model.transformer.params_dtype = at::kDouble;
  for (const char* field :
       {"kv_channels", "lr", "data_path", "params_dtype", "tokenizer_type", "qk_layernorm"}) {
    set_field(options, field, nullptr);
  }
  EXPECT_EQ(to_json(options), to_json(Options{}));
}

TEST(SetField, ErrorNamesTheUnsupportedField) {
  Options options;
  const auto refusal = [&](const char* field, const nlohmann::json& value) {
    return message_of([&] { set_field(options, field, value); });
  };
  EXPECT_THAT(refusal("moe_latent_size", 4), HasSubstr("moe_latent_size"));
  EXPECT_THAT(refusal("activation_func", "mish"), HasSubstr("for activation_func, but got 'mish'"));
  EXPECT_THAT(refusal("position_embedding_type", "alibi"),
              HasSubstr("for position_embedding_type"));
  EXPECT_EQ(
      refusal("attention_softmax_in_fp32", false),
      "Expected attention_softmax_in_fp32 to be true, but got false; this version supports no "
      "other value");
  EXPECT_EQ(refusal("attention_softmax_in_fp32", true), "accepted");
  // Flags are not fields.
  EXPECT_THAT(refusal("disable_bias_linear", true), HasSubstr("'disable_bias_linear'"));
  EXPECT_THAT(refusal("swiglu", true), HasSubstr("'swiglu'"));
}

TEST(Differences, ListChangedFieldsOnly) {
  EXPECT_TRUE(differences_from_default(Options{}).empty());
  const auto parsed =
      parse_options(Command::train, {"--lr", "0.1", "--disable-bias-linear", "--seed", "1234"});
  EXPECT_THAT(differences_from_default(parsed.options),
              ElementsAre(Pair("add_bias_linear", "false"), Pair("lr", "0.1")));
}

TEST(Differences, OfArchitectureCompareDerivedValues) {
  Options left;
  left.model.transformer.num_layers = 2;
  left.model.transformer.hidden_size = 64;
  left.model.transformer.num_attention_heads = 4;
  Options right = left;
  right.model.transformer.ffn_hidden_size = 256;
  right.model.transformer.kv_channels = 16;
  right.model.max_position_embeddings = 1024;
  right.optimizer.lr = 1;
  right.model.transformer.tensor_model_parallel_size = 2;
  EXPECT_TRUE(architecture_differences(left, right).empty());
  right.model.transformer.num_layers = 3;
  const auto differences = architecture_differences(left, right);
  ASSERT_EQ(differences.size(), 1U);
  EXPECT_EQ(differences[0].field, "num_layers");
  EXPECT_EQ(differences[0].left, "2");
  EXPECT_EQ(differences[0].right, "3");
}

TEST(Differences, OfArchitectureCompareLayersAndNotTheSpellingOfPatterns) {
  Options left;
  TransformerConfig& t = left.model.transformer;
  t.num_layers = 4;
  t.window_size = {7, 0};
  t.window_attn_skip_freq = {2};
  t.no_rope_freq = {4};
  Options right = left;
  right.model.transformer.window_attn_skip_freq = {1, 0, 1, 0};
  right.model.transformer.no_rope_freq = {0, 0, 0, 1};
  EXPECT_TRUE(architecture_differences(left, right).empty());
  right.model.transformer.window_attn_skip_freq = {1, 0, 0, 0};
  EXPECT_EQ(architecture_differences(left, right).size(), 1U);
  t.window_attn_skip_freq = {};
  right.model.transformer.window_attn_skip_freq = {1, 1, 1, 1};
  EXPECT_TRUE(architecture_differences(left, right).empty());
}

TEST(Differences, OfArchitectureTellContextExtensionApart) {
  Options left;
  left.model.transformer.num_layers = 2;
  left.model.transformer.hidden_size = 64;
  left.model.transformer.num_attention_heads = 4;
  left.model.position_embedding_type = PositionEmbeddingType::rope;
  Options right = left;
  right.model.rotary_base = 500000;
  right.model.rope_scaling = true;
  right.model.rope_scaling_factor = 4;
  right.model.seq_len_interpolation_factor = 2;
  right.model.transformer.window_size = {127, 0};
  right.model.transformer.window_attn_skip_freq = {2};
  right.model.position_embedding_type = PositionEmbeddingType::yarn;
  right.model.transformer.yarn.rotary_scaling_factor = 8;
  const auto differences = architecture_differences(left, right);
  EXPECT_EQ(differences.size(), 8U);
  for (const ArchitectureDifference& difference : differences)
    EXPECT_TRUE(difference.extends_context) << difference.field;

  right = left;
  right.model.rotary_percent = 0.5;
  right.model.transformer.qk_layernorm = true;
  right.model.position_embedding_type = PositionEmbeddingType::none;
  const auto others = architecture_differences(left, right);
  EXPECT_EQ(others.size(), 3U);
  for (const ArchitectureDifference& difference : others)
    EXPECT_FALSE(difference.extends_context) << difference.field;
}

TEST(FixedFields, AreNotOptions) {
  EXPECT_FALSE(fixed_fields().empty());
  for (const FixedField& field : fixed_fields())
    EXPECT_EQ(option_table().find_field(field.name), nullptr) << field.name;
}

TEST(Hash, IsStableAndIgnoresMachineAndPaths) {
  Options options;
  EXPECT_EQ(options_hash(options), 3320404949056263377ULL);  // XXH64 of "{}"
  options.launch.nproc = 4;
  options.launch.master_port = 1;
  options.logging.log_json = "y";
  options.config_file = "z";
  EXPECT_EQ(options_hash(options), options_hash(Options{}));
  options.optimizer.lr = 0.5;
  const uint64_t changed = options_hash(options);
  EXPECT_NE(changed, options_hash(Options{}));
  options.model.transformer.num_layers = 1;
  EXPECT_NE(options_hash(options), changed);
  options.model.transformer.num_layers = 0;
  EXPECT_EQ(options_hash(options), changed);
}

// Paths may differ between ranks, but all must save, load or profile together.
TEST(Hash, CoversOptionsThatStartCollectives) {
  Options one, other;
  one.checkpoint.save = "x";
  EXPECT_NE(options_hash(one), options_hash(other));
  other.checkpoint.save = "y";
  EXPECT_EQ(options_hash(one), options_hash(other));
  other.checkpoint.save_interval = 3;
  EXPECT_NE(options_hash(one), options_hash(other));
  one.checkpoint.save_interval = 3;
  one.profile.profile_dir = "z";
  EXPECT_EQ(options_hash(one), options_hash(other));
  one.profile.profile = true;
  EXPECT_NE(options_hash(one), options_hash(other));
  const auto differences =
      shared_options_differences(shared_options_text(one), shared_options_text(other));
  ASSERT_EQ(differences.size(), 1);
  EXPECT_EQ(differences[0].field, "--profile");
}

}  // namespace
}  // namespace megatron
