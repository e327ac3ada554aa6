// Flags of Megatron-LM that are accepted because what they ask for is always so.
#include "megatron/config/options/accepted_flags.h"

#include <cstdlib>
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

std::vector<std::string> accepted(const std::vector<std::string>& arguments) {
  return parse_options(Command::train, arguments).without_effect;
}

std::string flag_refusal(const std::vector<std::string>& arguments,
                         Command command = Command::train) {
  return message_of([&] { parse_options(command, arguments); });
}

TEST(AcceptedFlags, AreListedWithTheirValues) {
  const auto flags = accepted({"--use-mcore-models", "--num-layers", "4", "--num-workers", "2",
                               "--dataloader-type=single", "--no-load-rng=true", "--data-path", "a",
                               "b", "--ckpt-format", "torch_dist", "--log-throughput"});
  EXPECT_THAT(
      flags, ElementsAre("--ckpt-format torch_dist", "--dataloader-type single", "--log-throughput",
                         "--no-load-rng", "--num-workers 2", "--use-mcore-models"));
  EXPECT_EQ(flags_without_effect_line({flags[0], flags[3]}),
            "Flags without effect here, because it is always so: --ckpt-format torch_dist, "
            "--no-load-rng");
  EXPECT_EQ(flags_without_effect_line({}), "");
}

// Every flag of the table with each of its values, and with a value that it does not have.
TEST(AcceptedFlags, EveryFlagOfTheTableIsAcceptedWithItsValuesOnly) {
  ASSERT_EQ(std::getenv("LOCAL_RANK"), nullptr);
  for (const MegatronLmFlag& flag : effectless_megatron_lm_flags()) {
    const std::string name = "--" + std::string(flag.name);
    ASSERT_EQ(flag.fate, MegatronLmFate::no_effect) << name;
    EXPECT_EQ(flag.values == 0, flag.accepted.empty()) << name;
    if (flag.values == 0) {
      const bool needs_folder = name.ends_with("-to-tensorboard");
      EXPECT_THAT(accepted({name}),
                  ElementsAre(needs_folder ? name + " (with --tensorboard-dir, which is not given)"
                                           : name));
      EXPECT_THAT(flag_refusal({name + "=false"}), HasSubstr("Expected true for " + name)) << name;
      continue;
    }
    const std::string value =
        flag.accepted == "N" ? "0" : std::string(flag.accepted.substr(0, flag.accepted.find('|')));
    EXPECT_THAT(accepted({name, value}), ElementsAre(name + " " + value));
    EXPECT_THAT(accepted({name + "=" + value}), ElementsAre(name + " " + value));
    EXPECT_THAT(flag_refusal({name, "neither"}),
                HasSubstr("for " + name + ", but got 'neither'; " + std::string(flag.otherwise)));
    EXPECT_THAT(flag_refusal({name}), HasSubstr("Expected a value after " + name));
    EXPECT_THAT(flag_refusal({name, "--bf16"}), HasSubstr("Expected a value after " + name));
  }
}

TEST(AcceptedFlags, OtherValuesAreRefusedWithWhatWorks) {
  EXPECT_EQ(flag_refusal({"--dataloader-type", "cyclic"}),
            "Expected single for --dataloader-type, but got 'cyclic'; single works");
  EXPECT_EQ(flag_refusal({"--ckpt-format", "torch"}),
            "Expected torch_dist for --ckpt-format, but got 'torch'; torch_dist works; checkpoints "
            "are always safetensors shards that any layout loads");
  EXPECT_EQ(flag_refusal({"--main-grads-dtype", "bf16"}),
            "Expected fp32 for --main-grads-dtype, but got 'bf16'; --grad-reduce-in-bf16 works");
  EXPECT_EQ(flag_refusal({"--num-workers", "-1"}),
            "Expected a whole number for --num-workers, but got '-1'; 2 works; there are no worker "
            "processes");
  EXPECT_THAT(flag_refusal({"--distributed-backend", "mpi"}),
              HasSubstr("Expected one of gloo, nccl"));
  EXPECT_EQ(flag_refusal({"--num-workers", "1", "--num-workers", "2"}),
            "Expected one value for --num-workers, but got both 1 and 2; give it once");
}

TEST(AcceptedFlags, ContradictionsAreRefused) {
  EXPECT_EQ(
      flag_refusal({"--check-for-nan-in-loss-and-grad", "--no-check-for-nan-in-loss-and-grad"}),
      "Expected --check-for-nan-in-loss-and-grad or --no-check-for-nan-in-loss-and-grad, but "
      "got both; leave one out");
  EXPECT_EQ(flag_refusal({"--main-grads-dtype", "fp32", "--bf16", "--grad-reduce-in-bf16"}),
            "Expected --main-grads-dtype fp32 or --grad-reduce-in-bf16, but got both; leave one "
            "out");
  EXPECT_EQ(flag_refusal({"--distributed-backend", "nccl"}),
            "Expected --distributed-backend gloo with --device cpu, but got nccl; --device cuda "
            "selects nccl, or leave --distributed-backend out");
  EXPECT_THAT(accepted({"--distributed-backend", "nccl", "--device", "cuda"}),
              ElementsAre("--distributed-backend nccl"));
  EXPECT_THAT(flag_refusal({"--local-rank", "1"}), HasSubstr("LOCAL_RANK is not set, but got 1"));
  ::setenv("LOCAL_RANK", "1", 1);
  EXPECT_THAT(accepted({"--local-rank", "1"}), ElementsAre("--local-rank 1"));
  ::unsetenv("LOCAL_RANK");
}

TEST(AcceptedFlags, SubcommandsWithoutTrainingOptionsRefuseThem) {
  EXPECT_THAT(flag_refusal({"--use-mcore-models"}, Command::bench),
              HasSubstr("a flag of Megatron-LM; leave it out"));
  EXPECT_EQ(flag_refusal({"--use-mcore-models", "--num-workers", "2"}, Command::plan), "accepted");
}

TEST(AcceptedFlags, WhatDoesNotHoldStaysRefused) {
  EXPECT_THAT(flag_refusal({"--create-attention-mask-in-dataloader"}), HasSubstr("leave it out"));
  EXPECT_THAT(flag_refusal({"--lazy-mpu-init", "true"}), HasSubstr("leave it out"));
  EXPECT_THAT(flag_refusal({"--step-batch-size-schedule", "0:8"}),
              HasSubstr("not supported in this version"));
}

// Megatron-LM switches sequence parallelism off, with a warning.
TEST(AcceptedFlags, SequenceParallelismOfOneRankIsListed) {
  const ParsedCommand one = parse_options(Command::train, {"--sequence-parallel"});
  EXPECT_FALSE(one.options.model.transformer.sequence_parallel);
  EXPECT_THAT(one.without_effect, ElementsAre("--sequence-parallel (of one tensor parallel rank)"));
  const ParsedCommand two =
      parse_options(Command::train, {"--sequence-parallel", "--tensor-model-parallel-size", "2"});
  EXPECT_TRUE(two.options.model.transformer.sequence_parallel);
  EXPECT_TRUE(two.without_effect.empty());
}

TEST(AcceptedFlags, FilesMayHoldThem) {
  const auto path = std::filesystem::temp_directory_path() /
                    ("megatron_accepted_" + std::to_string(getpid()) + ".yaml");
  const auto parse = [&](const std::string& text, std::vector<std::string> flags = {}) {
    std::ofstream(path) << text;
    flags.insert(flags.begin(), {"--config", path.string()});
    return parse_options(Command::train, flags);
  };
  EXPECT_THAT(parse("data:\n  num_workers: 4\nuse-mcore-models: true\n", {"--num-workers", "2"})
                  .without_effect,
              ElementsAre("--num-workers 2", "--use-mcore-models"));
  EXPECT_EQ(message_of([&] { parse("lr: 1\ndataloader_type: cyclic\n"); }),
            path.string() +
                ", line 2: Expected single for dataloader_type, but got 'cyclic'; single works");
  EXPECT_THAT(message_of([&] { parse("use_mcore_models: false\n"); }),
              HasSubstr("line 1: Expected true for use_mcore_models, but got 'false'"));
  EXPECT_THAT(message_of([&] { parse("num_workers:\n"); }),
              HasSubstr("Expected a value for num_workers"));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace megatron
