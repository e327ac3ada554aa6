// Parsing of command lines: values, shorthands and errors.
#include "megatron/config/options/command_line.h"

#include <gmock/gmock.h>
#include <set>
#include <string_view>

#include <gtest/gtest.h>

#include "megatron/config/megatron_lm/megatron_lm_flags.h"
#include "megatron/config/options/option_table.h"

#include "tests/config/usage_message.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using Arguments = std::vector<std::string>;

Options train_options(const Arguments& arguments) {
  return parse_options(Command::train, arguments).options;
}

std::string parsing_refusal(const Arguments& arguments, Command command = Command::train) {
  return message_of([&] { parse_options(command, arguments); });
}

TEST(CommandLine, DefaultsWithoutFlags) {
  const ParsedCommand parsed = parse_options(Command::train, {});
  EXPECT_TRUE(parsed.given.empty());
  EXPECT_EQ(parsed.options.optimizer.lr, OptimizerConfig{}.lr);
}

TEST(CommandLine, ParsesValuesOfEveryType) {
  const ParsedCommand parsed = parse_options(Command::train, {"--num-layers",
                                                              "12",
                                                              "--hidden-size=768",
                                                              "--lr",
                                                              "6e-4",
                                                              "--bf16",
                                                              "--normalization",
                                                              "RMSNorm",
                                                              "--lr-decay-style=WSD",
                                                              "--num-query-groups",
                                                              "4",
                                                              "--data-path",
                                                              "a",
                                                              "b",
                                                              "--save",
                                                              "out",
                                                              "--params-dtype",
                                                              "bf16",
                                                              "--disable-bias-linear",
                                                              "--device",
                                                              "cuda",
                                                              "--tokenizer-type",
                                                              "ByteTokenizer",
                                                              "--norm-epsilon",
                                                              "1e-6"});
  const Options& options = parsed.options;
  EXPECT_EQ(options.model.transformer.num_layers, 12);
  EXPECT_EQ(options.model.transformer.hidden_size, 768);
  EXPECT_EQ(options.optimizer.lr, 6e-4);
  EXPECT_TRUE(options.model.transformer.bf16);
  EXPECT_EQ(options.model.transformer.params_dtype, at::kBFloat16);
  EXPECT_EQ(options.model.transformer.normalization, Normalization::RMSNorm);
  EXPECT_EQ(options.optimizer.lr_decay_style, LrDecayStyle::WSD);
  EXPECT_EQ(options.model.transformer.num_query_groups, 4);
  EXPECT_THAT(options.data.data_path, ElementsAre("a", "b"));
  EXPECT_EQ(options.checkpoint.save, "out");
  EXPECT_FALSE(options.model.transformer.add_bias_linear);
  EXPECT_EQ(options.launch.device, "cuda");
  EXPECT_EQ(options.tokenizer.tokenizer_type, TokenizerType::ByteTokenizer);
  EXPECT_EQ(options.model.transformer.layernorm_epsilon, 1e-6);
  EXPECT_TRUE(parsed.is_given("num_layers"));
  EXPECT_TRUE(parsed.is_given("add_bias_linear"));
  EXPECT_FALSE(parsed.is_given("seq_length"));
}

TEST(CommandLine, NegativeNumbersAreValues) {
  EXPECT_EQ(train_options({"--lr", "-5"}).optimizer.lr, -5);
  EXPECT_EQ(train_options({"--num-layers=-5"}).model.transformer.num_layers, -5);
  EXPECT_EQ(train_options({"--lr", "-1e-3"}).optimizer.lr, -1e-3);
}

TEST(CommandLine, SwitchesAcceptTrueAndFalse) {
  EXPECT_FALSE(train_options({"--bf16=false"}).model.transformer.bf16);
  EXPECT_TRUE(train_options({"--bf16=true"}).model.transformer.bf16);
  EXPECT_TRUE(train_options({"--disable-bias-linear=false"}).model.transformer.add_bias_linear);
  EXPECT_THAT(parsing_refusal({"--bf16=maybe"}),
              HasSubstr("Expected true or false for --bf16, but got 'maybe'"));
}

TEST(CommandLine, StringsMayLookLikeFlagsOrBeEmpty) {
  EXPECT_EQ(parse_options(Command::generate, {"--load", "x", "--prompt", "--hello"})
                .options.generation.prompt,
            "--hello");
  EXPECT_EQ(
      parse_options(Command::generate, {"--load", "x", "--prompt", ""}).options.generation.prompt,
      "");
  EXPECT_EQ(parse_options(Command::generate, {"--load", "x", "--prompt=[a, b] \"c\""})
                .options.generation.prompt,
            "[a, b] \"c\"");
}

TEST(CommandLine, AliasesAndShorthands) {
  const auto generate = parse_options(Command::generate,
                                      {"--load", "x", "--num-tokens-to-generate", "9", "--greedy"});
  EXPECT_EQ(generate.options.generation.max_new_tokens, 9);
  EXPECT_EQ(generate.options.generation.temperature, 0);

  const auto swiglu = train_options({"--swiglu", "--hidden-size", "768"}).model.transformer;
  EXPECT_EQ(swiglu.activation_func, ActivationFunction::silu);
  EXPECT_TRUE(swiglu.gated_linear_unit);
  EXPECT_EQ(swiglu.ffn_hidden_size, 2048);
  EXPECT_EQ(train_options({"--swiglu", "--hidden-size", "16"}).model.transformer.ffn_hidden_size,
            64);
  EXPECT_EQ(
      train_options({"--swiglu", "--ffn-hidden-size", "96"}).model.transformer.ffn_hidden_size, 96);

  EXPECT_EQ(train_options({"--group-query-attention"}).model.transformer.num_query_groups, 1);
  EXPECT_EQ(train_options({"--group-query-attention", "--num-query-groups", "2"})
                .model.transformer.num_query_groups,
            2);
  EXPECT_EQ(train_options({"--use-rotary-position-embeddings"}).model.position_embedding_type,
            PositionEmbeddingType::rope);
  EXPECT_EQ(train_options({"--openai-gelu"}).model.transformer.activation_func,
            ActivationFunction::openai_gelu);
  EXPECT_EQ(train_options({"--swiglu=false"}).model.transformer.activation_func,
            ActivationFunction::gelu);
}

TEST(CommandLine, PositionalArguments) {
  const auto parity =
      parse_options(Command::parity, {"--json", "out.json", "case.json", "--tolerance", "2"});
  EXPECT_EQ(parity.options.parity.case_file, "case.json");
  EXPECT_EQ(parity.options.parity.json, "out.json");
  EXPECT_THAT(parsing_refusal({"a.json", "b.json"}, Command::parity), HasSubstr("'b.json'"));
  EXPECT_EQ(parse_options(Command::inspect, {"runs/x"}).options.inspect.checkpoint, "runs/x");
}

TEST(CommandLine, RequiredFlags) {
  EXPECT_THAT(parsing_refusal({"--input", "a.txt"}, Command::preprocess),
              HasSubstr("Expected --output-prefix"));
  const auto parsed =
      parse_options(Command::preprocess, {"--input", "a.txt", "b.txt", "--output-prefix", "o"});
  EXPECT_THAT(parsed.options.preprocess.input, ElementsAre("a.txt", "b.txt"));
  EXPECT_THAT(parsed.options.preprocess.json_keys, ElementsAre("text"));
  EXPECT_THAT(parse_options(Command::preprocess,
                            {"--input", "a", "--output-prefix", "o", "--json-keys", "k"})
                  .options.preprocess.json_keys,
              ElementsAre("k"));
}

TEST(CommandLine, UnknownFlagsNameTheNearest) {
  EXPECT_EQ(parsing_refusal({"--num-layer", "3"}),
            "Expected a flag of megatron train, but got --num-layer; the nearest is --num-layers");
  EXPECT_THAT(parsing_refusal({"--num_layers=3"}), HasSubstr("the nearest is --num-layers"));
  EXPECT_THAT(parsing_refusal({"--learning-rate", "1"}),
              EndsWith("got --learning-rate; megatron train --help lists them"));
  EXPECT_THAT(parsing_refusal({"--use-flash-attn"}),
              HasSubstr("a flag of Megatron-LM; use --attention-backend flash"));
  EXPECT_THAT(parsing_refusal({"--tensor-parallel-size", "2"}),
              EndsWith("the nearest is --tensor-model-parallel-size"));
  for (const char* flag :
       {"--moe-latent-size", "--moe-paged-stash", "--fp8-param-gather", "--moe-made-up-tomorrow"})
    EXPECT_THAT(parsing_refusal({flag}),
                HasSubstr("a flag of Megatron-LM that is not supported in this version"));
  // Flags of experts, FP8 and inference are known by their first word.
  for (const Option& option : option_table().options()) {
    EXPECT_TRUE(option.flag.starts_with("moe-") || option.flag.starts_with("fp8-") ||
                option.flag.starts_with("inference-") || !find_megatron_lm_flag("--" + option.flag))
        << option.flag;
  }
  EXPECT_THAT(parsing_refusal({"-x"}), StartsWith("Expected a flag of megatron train, but got -x"));
  EXPECT_THAT(parsing_refusal({"stray"}), HasSubstr("but got 'stray'"));
  EXPECT_THAT(parsing_refusal({"--bf16", "true"}), HasSubstr("but got 'true'"));
}

// Values of unknown flags are not stray words, and one run reports all flags of a script.
TEST(CommandLine, ReportsAllUnknownFlagsTogether) {
  const Arguments script = {"--use-mcore-models",
                            "--num-layers",
                            "x",
                            "--lazy-mpu-init",
                            "true",
                            "--use-flash-attn",
                            "--step-batch-size-schedule",
                            "0:16",
                            "--num-layer",
                            "3",
                            "--create-attention-mask-in-dataloader",
                            "--prompt",
                            "hello"};
  try {
    parse_options(Command::train, script);
    FAIL() << "accepted";
  } catch (const UsageError& error) {
    EXPECT_EQ(
        std::string(error.what()),
        "Expected flags of megatron train, but got 6 others; leave out: --lazy-mpu-init, "
        "--create-attention-mask-in-dataloader; replace: --use-flash-attn (use --attention-backend "
        "flash); not supported in this version: --step-batch-size-schedule; of other subcommands: --prompt; "
        "unknown: --num-layer (the nearest is --num-layers); docs/from_megatron_lm.md lists "
        "those of Megatron-LM");
    EXPECT_THAT(error.details(), HasSubstr("leave out:\n"));
    EXPECT_THAT(error.details(), HasSubstr("variable batch sizes\n"));
    EXPECT_THAT(error.details(), HasSubstr("belongs to: generate\n"));
  }
  EXPECT_THAT(parsing_refusal({"--warmup", "1", "stray"}), HasSubstr("--warmup"));
  EXPECT_THAT(parsing_refusal({"--fp8-interval", "-1"}),
              HasSubstr("not supported in this version"));
}

TEST(CommandLine, FlagsOfMegatronLmAreUniqueAndNotOptions) {
  std::set<std::string_view> names;
  for (const MegatronLmFlag& flag : megatron_lm_flags()) {
    EXPECT_TRUE(names.insert(flag.name).second) << flag.name;
    EXPECT_EQ(option_table().find_flag(flag.name), nullptr) << flag.name;
    EXPECT_FALSE(flag.text.empty()) << flag.name;
  }
  EXPECT_GT(names.size(), 650);
  // Advised flags exist.
  std::vector<MegatronLmFlag> advising = replaced_megatron_lm_flags();
  for (const MegatronLmFlag& flag : effectless_megatron_lm_flags()) {
    advising.push_back(flag);
    if (flag.opposite.empty()) continue;
    EXPECT_NE(option_table().find_flag(flag.opposite), nullptr) << flag.name;
  }
  for (const MegatronLmFlag& flag : advising) {
    const std::string text = std::string(flag.text) + " " + std::string(flag.otherwise);
    for (size_t at = text.find("--"); at != std::string::npos; at = text.find("--", at + 2)) {
      const size_t end = text.find_first_of(" ,:;)", at);
      const std::string advised = text.substr(at, end == std::string::npos ? end : end - at);
      EXPECT_NE(option_table().find_flag(advised), nullptr) << flag.name << ": " << advised;
    }
  }
}

TEST(CommandLine, FlagsOfOtherSubcommandsNameThem) {
  EXPECT_EQ(parsing_refusal({"--prompt", "x"}),
            "Expected a flag of megatron train, but got --prompt, which belongs to: generate");
  EXPECT_THAT(parsing_refusal({"--num-layers", "2"}, Command::tokenize),
              HasSubstr("which belongs to: train, plan, bench"));
}

TEST(CommandLine, InvalidValuesNameTheExpectedType) {
  EXPECT_EQ(parsing_refusal({"--num-layers", "x"}),
            "Expected an integer for --num-layers, but got 'x'");
  EXPECT_EQ(parsing_refusal({"--lr=fast"}), "Expected a number for --lr, but got 'fast'");
  EXPECT_EQ(parsing_refusal({"--normalization", "layernorm"}),
            "Expected one of LayerNorm, RMSNorm for --normalization, but got 'layernorm'");
  EXPECT_EQ(parsing_refusal({"--device", "tpu"}),
            "Expected one of cpu, cuda for --device, but got 'tpu'");
  EXPECT_EQ(parsing_refusal({"--num-layers"}), "Expected a value after --num-layers, but got none");
  EXPECT_EQ(parsing_refusal({"--data-path"}), "Expected a value after --data-path, but got none");
  EXPECT_THAT(parsing_refusal({"--num-layers", "--hidden-size", "64"}),
              HasSubstr("Expected an integer for --num-layers, but got '--hidden-size'"));
}

TEST(CommandLine, ContradictionsAreRefused) {
  EXPECT_EQ(parsing_refusal({"--seed", "1", "--seed", "2"}),
            "Expected one value for --seed, but got both 1 and 2; give it once");
  EXPECT_EQ(parsing_refusal({"--seed", "1", "--seed", "1"}), "accepted");
  EXPECT_EQ(parsing_refusal({"--bf16", "--bf16"}), "accepted");
  EXPECT_THAT(parsing_refusal({"--swiglu", "--squared-relu"}),
              HasSubstr("Expected --swiglu or --squared-relu, but got both"));
  EXPECT_THAT(parsing_refusal({"--bias-gelu-fusion", "--no-bias-gelu-fusion"}),
              HasSubstr("but got both"));
}

TEST(CommandLine, RepeatedListsAreConcatenated) {
  EXPECT_THAT(train_options({"--data-path", "a", "--bf16", "--data-path", "b"}).data.data_path,
              ElementsAre("a", "b"));
}

TEST(CommandLine, ListsOfNumbers) {
  const auto window = [](const Arguments& arguments) {
    return train_options(arguments).model.transformer.window_size;
  };
  EXPECT_THAT(window({"--window-size", "3,0"}), ElementsAre(3, 0));
  EXPECT_THAT(window({"--window-size", "3", "0", "--bf16"}), ElementsAre(3, 0));
  EXPECT_THAT(window({"--window-size=-1,0"}), ElementsAre(-1, 0));
  EXPECT_THAT(window({"--window-size", "(3,0)"}), ElementsAre(3, 0));  // Megatron's notation
  const TransformerConfig config = train_options({"--mrope-section", "2,1,1", "--no-rope-freq", "4",
                                                  "--window-attn-skip-freq", "[1,0,1]"})
                                       .model.transformer;
  EXPECT_THAT(config.mrope_section, ElementsAre(2, 1, 1));
  EXPECT_THAT(config.no_rope_freq, ElementsAre(4));
  EXPECT_THAT(config.window_attn_skip_freq, ElementsAre(1, 0, 1));
  EXPECT_THAT(train_options({"--profile-ranks", "2,3"}).profile.profile_ranks,
              ElementsAre(2, 3));  // not added to the default
  EXPECT_THAT(parsing_refusal({"--window-size", "three"}),
              HasSubstr("Expected an integer for --window-size, but got 'three'"));
}

TEST(Command, UnknownNameSuggestsTheNearest) {
  for (const Command command : kCommands)
    EXPECT_EQ(command_from_name(command_name(command)), command);
  EXPECT_THAT(message_of([] { command_from_name("trian"); }), HasSubstr("the nearest is train"));
}

}  // namespace
}  // namespace megatron
