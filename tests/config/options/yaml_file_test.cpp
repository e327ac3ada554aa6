// Options from YAML files, with and without flags.
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "megatron/config/options/command_line.h"

#include "tests/config/usage_message.h"

namespace megatron {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class YamlFile : public ::testing::Test {
 protected:
  YamlFile()
      : path_(std::filesystem::temp_directory_path() /
              ("megatron_yaml_" + std::to_string(getpid()) + ".yaml")) {}
  ~YamlFile() override { std::filesystem::remove(path_); }

  ParsedCommand parse(const std::string& text, std::vector<std::string> flags = {}) {
    std::ofstream(path_) << text;
    flags.insert(flags.begin(), {"--config", path_.string()});
    return parse_options(Command::train, flags);
  }
  std::string refusal(const std::string& text, const std::vector<std::string>& flags = {}) {
    return message_of([&] { parse(text, flags); });
  }

  std::filesystem::path path_;
};

TEST_F(YamlFile, AcceptsFlagAndFieldNamesInSections) {
  const ParsedCommand parsed = parse(
      "model:\n"
      "  num-layers: 4\n"
      "  hidden_size: 64\n"
      "  disable-bias-linear: true\n"
      "  layernorm_epsilon: 1e-6\n"
      "  share_embeddings_and_output_weights: no\n"
      "  normalization: RMSNorm\n"
      "lr: 0.001\n"
      "data:\n"
      "  data-path: [a, b]\n"
      "  split: 9,1\n"
      "num_query_groups: null\n");
  const Options& options = parsed.options;
  EXPECT_EQ(options.model.transformer.num_layers, 4);
  EXPECT_EQ(options.model.transformer.hidden_size, 64);
  EXPECT_FALSE(options.model.transformer.add_bias_linear);
  EXPECT_EQ(options.model.transformer.layernorm_epsilon, 1e-6);
  EXPECT_FALSE(options.model.share_embeddings_and_output_weights);
  EXPECT_EQ(options.model.transformer.normalization, Normalization::RMSNorm);
  EXPECT_EQ(options.optimizer.lr, 0.001);
  EXPECT_THAT(options.data.data_path, ElementsAre("a", "b"));
  EXPECT_EQ(options.data.split, "9,1");
  EXPECT_EQ(options.training.seed, 1234);
  EXPECT_TRUE(parsed.is_given("lr"));
  EXPECT_FALSE(parsed.is_given("seed"));
}

TEST_F(YamlFile, FieldNamesAreNotInverted) {
  EXPECT_TRUE(parse("add_bias_linear: true\n").options.model.transformer.add_bias_linear);
  EXPECT_FALSE(parse("add_bias_linear: false\n").options.model.transformer.add_bias_linear);
  EXPECT_TRUE(parse("disable_bias_linear: false\n").options.model.transformer.add_bias_linear);
}

TEST_F(YamlFile, FlagsOverrideTheFile) {
  const auto options = parse("lr: 0.1\nbf16: true\ndata_path: [a]\nswiglu: true\n",
                             {"--lr", "0.2", "--bf16=false", "--data-path", "b", "--squared-relu"})
                           .options;
  EXPECT_EQ(options.optimizer.lr, 0.2);
  EXPECT_FALSE(options.model.transformer.bf16);
  EXPECT_THAT(options.data.data_path, ElementsAre("b"));
  EXPECT_EQ(options.model.transformer.activation_func, ActivationFunction::squared_relu);
  EXPECT_FALSE(options.model.transformer.gated_linear_unit);
  EXPECT_FALSE(options.model.transformer.ffn_hidden_size.has_value());
}

TEST_F(YamlFile, AcceptsMegatronsNameOfTheFlag) {
  std::ofstream(path_) << "lr: 0.5\n";
  EXPECT_EQ(parse_options(Command::bench, {"--yaml-cfg", path_.string()}).options.optimizer.lr,
            0.5);
}

TEST_F(YamlFile, ErrorsNameFileLineAndKey) {
  EXPECT_EQ(refusal("lr: 1\nmodel:\n  num_layer: 3\n"),
            path_.string() +
                ", line 3: Expected the name of an option, but got 'num_layer'; the nearest is "
                "num_layers");
  EXPECT_EQ(refusal("lr: 1\nnum_layers: many\n"),
            path_.string() + ", line 2: Expected an integer for num_layers, but got 'many'");
  EXPECT_THAT(refusal("bf16: 3\n"),
              HasSubstr("line 1: Expected true or false for bf16, but got '3'"));
  EXPECT_THAT(refusal("lr: [1, 2]\n"), HasSubstr("Expected a single value for lr, but got a list"));
  EXPECT_THAT(refusal("bf16: true\nlr:\n"),
              HasSubstr(", line 2: Expected a value for lr, but got none"));
  EXPECT_THAT(refusal("lr: !mine 1\n"), HasSubstr("but got the tag !mine"));
  EXPECT_THAT(refusal("lr: 1\n---\nlr: 2\n"), HasSubstr("Expected one YAML document in "));
  EXPECT_THAT(refusal("model:\n  b:\n    lr: 1\n"),
              HasSubstr("line 2: Expected one level of sections"));
  EXPECT_THAT(refusal("modle:\n  num-layers: 2\n"), HasSubstr("'modle'; the nearest is model"));
  EXPECT_THAT(refusal("prompt: hello\n"),
              HasSubstr("Expected an option of megatron train, but got 'prompt'"));
  EXPECT_THAT(refusal("config: other.yaml\n"), HasSubstr("a file cannot include another"));
  EXPECT_THAT(refusal("lr: 1\nlr: 2\n"), HasSubstr("line 2: Expected one value for lr"));
  EXPECT_THAT(refusal("lr: [1\nbf16: }\n"), HasSubstr("Expected YAML in"));
  EXPECT_THAT(refusal("- lr\n"), HasSubstr("Expected keys with values"));
  EXPECT_THAT(refusal("[1]: 2\n"), HasSubstr("Expected a single value"));
}

TEST_F(YamlFile, ReportsAllUnknownKeysTogether) {
  EXPECT_EQ(
      refusal("lr: fast\nmodel:\n  num_layer: 3\n  warmup: 1\n"),
      path_.string() +
          ": Expected options of megatron train, but got 2 others; replace: warmup "
          "in line 4 (use --lr-warmup-fraction); unknown: num_layer in line 3 (the nearest is num_layers); "
          "docs/from_megatron_lm.md lists those of Megatron-LM");
}

// A flag that disables evaluation does not contradict eval_iters in the file.
TEST_F(YamlFile, EvalIntervalZeroDiscardsTheFilesEvalIters) {
  const ParsedCommand off = parse("eval_interval: 10\neval_iters: 5\n", {"--eval-interval", "0"});
  EXPECT_EQ(off.options.training.eval_iters, TrainingConfig().eval_iters);
  EXPECT_FALSE(off.is_given("eval_iters"));
  EXPECT_EQ(parse("eval_interval: 0\neval_iters: 5\n").options.training.eval_iters, 5);
  EXPECT_EQ(parse("eval_iters: 5\n", {"--eval-interval", "0", "--eval-iters", "7"})
                .options.training.eval_iters,
            7);
}

TEST_F(YamlFile, EmptyFileAssignsNothing) {
  EXPECT_EQ(parse("").given, (std::set<std::string>{"config_file"}));
  EXPECT_EQ(parse("# nothing\n").given, (std::set<std::string>{"config_file"}));
}

TEST_F(YamlFile, MissingFileIsNamed) {
  EXPECT_EQ(message_of([] {
              parse_options(Command::train, {"--config", "/no/such.yaml"});
            }),
            "Expected a readable YAML file for --config, but got '/no/such.yaml'");
  EXPECT_THAT(message_of([] {
                parse_options(Command::train, {"--config", "/"});
              }),
              HasSubstr("--config"));
}

// Fields of Megatron's DistributedDataParallelConfig (core/distributed/, August 2026): each is an
// option here, or an error names it.
TEST_F(YamlFile, KnowsEveryFieldOfDistributedDataParallelConfig) {
  const auto section = [](const std::string& line) { return "ddp:\n  " + line + "\n"; };
  for (const char* accepted :
       {"grad_reduce_in_fp32: true", "overlap_grad_reduce: true", "use_distributed_optimizer: true",
        "check_for_nan_in_grad: true", "bucket_size: 1000", "num_buckets: 3",
        "pad_buckets_for_high_nccl_busbw: false", "use_megatron_fsdp: true",
        "data_parallel_sharding_strategy: no_shard", "overlap_param_gather: false",
        "use_torch_fsdp2: true", "torch_fsdp2_reshard_after_forward: true"}) {
    EXPECT_NO_THROW(parse(section(accepted))) << accepted;
  }
  for (const char* refused : {"align_param_gather",
                              "num_distributed_optimizer_instances",
                              "check_for_large_grads",
                              "reduce_scatter_with_fp32_accumulation",
                              "param_name_patterns_for_fp32_local_accumulation",
                              "average_in_collective",
                              "fp8_param_gather",
                              "fp4_param_gather",
                              "reuse_grad_buf_for_mxfp8_param_ag",
                              "megatron_fsdp_version",
                              "use_custom_fsdp",
                              "gradient_reduce_div_fusion",
                              "suggested_communication_unit_size",
                              "keep_fp8_transpose_cache",
                              "nccl_ub",
                              "fsdp_double_buffer",
                              "fsdp_db_use_persist_buf_on_alloc_fail",
                              "fsdp_all_gather_in_start_param_sync",
                              "outer_dp_sharding_strategy",
                              "disable_symmetric_registration",
                              "fsdp_manual_registration",
                              "megatron_fsdp_main_params_dtype",
                              "megatron_fsdp_main_grads_dtype",
                              "megatron_fsdp_grad_comm_dtype",
                              "megatron_fsdp_use_decoupled_grad",
                              "megatron_fsdp_cuda_graph_mode",
                              "megatron_fsdp_enable_fine_grained_param_gather",
                              "megatron_fsdp_max_pool_double_buffer"}) {
    EXPECT_THAT(refusal(section(std::string(refused) + ": true")),
                testing::AllOf(HasSubstr(fmt::format("got '{}'", refused)),
                               HasSubstr("a flag of Megatron-LM")))
        << refused;
  }
}

}  // namespace
}  // namespace megatron
