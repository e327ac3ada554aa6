// Options of a run whose model comes from a folder.
#include "megatron/convert/model_options.h"

#include <gmock/gmock.h>

#include <gtest/gtest.h>

#include "megatron/base/usage_error.h"
#include "megatron/config/options/command_line.h"
#include "megatron/convert/source_model.h"

#include "tests/convert/hf_folder.h"

namespace megatron {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

Options adopted(const std::string& name, const std::vector<std::string>& flags) {
  const ParsedCommand parsed = parse_options(Command::train, flags);
  Options options = parsed.options;
  adopt_model(options, read_source_config(golden_hf(name)), parsed.given, name);
  return options;
}

TEST(AdoptModel, TakesTheArchitectureFromTheFolder) {
  const Options options = adopted("llama3_rope", {});
  const TransformerConfig& t = options.model.transformer;
  EXPECT_EQ(t.num_layers, 2);
  EXPECT_EQ(t.query_groups(), 2);
  EXPECT_EQ(t.normalization, Normalization::RMSNorm);
  EXPECT_TRUE(t.gated_linear_unit);
  EXPECT_FALSE(t.add_bias_linear);
  EXPECT_FALSE(options.model.share_embeddings_and_output_weights);
  EXPECT_EQ(options.model.vocab_size, 512);
  EXPECT_EQ(options.model.rotary_base, 500000);
  EXPECT_TRUE(options.model.rope_scaling);
  EXPECT_EQ(t.hidden_dropout, 0);
  EXPECT_EQ(options.model.seq_length, 128);  // of max_position_embeddings
  EXPECT_EQ(options.model.padded_vocab_size(), 512);
}

TEST(AdoptModel, FlagsThatAgreeAndOthersAreKept) {
  const Options options = adopted(
      "llama3_rope", {"--hidden-size", "64", "--swiglu", "--seq-length", "32", "--hidden-dropout",
                      "0.1", "--tensor-model-parallel-size", "2", "--bf16"});
  EXPECT_EQ(options.model.seq_length, 32);
  EXPECT_EQ(options.model.transformer.hidden_dropout, 0.1);
  EXPECT_EQ(options.model.transformer.tensor_model_parallel_size, 2);
  EXPECT_TRUE(options.model.transformer.bf16);
  EXPECT_EQ(options.model.transformer.ffn_hidden_size, 128);
}

TEST(AdoptModel, ContradictingFlagsAreRefusedTogether) {
  EXPECT_THAT(
      [] {
        adopted("llama3_rope", {"--hidden-size", "128", "--num-layers", "4"});
      },
      ThrowsMessage<UsageError>(AllOf(HasSubstr("--hidden-size 128 instead of 64"),
                                      HasSubstr("--num-layers 4 instead of 2"))));
}

TEST(AdoptModel, ContextMayChangeWithFinetune) {
  EXPECT_THROW(adopted("llama3_rope", {"--rotary-base", "10000"}), UsageError);
  EXPECT_EQ(adopted("llama3_rope", {"--rotary-base", "10000", "--finetune"}).model.rotary_base,
            10000);
}

TEST(AdoptModel, LongerSequencesMakeALongerModel) {
  EXPECT_EQ(adopted("llama3_rope", {"--seq-length", "64"}).model.max_sequence_length(), 128);
  const Options longer = adopted("llama3_rope", {"--seq-length", "512"});
  EXPECT_EQ(longer.model.max_sequence_length(), 512);
  EXPECT_EQ(adopted("gpt2", {"--seq-length", "512"}).model.max_position_embeddings, 128);
}

}  // namespace
}  // namespace megatron
