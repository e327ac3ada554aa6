#include "megatron/config/options/fields_as_flags.h"

#include <gtest/gtest.h>

namespace megatron {
namespace {

TEST(FieldsAsFlags, ReplacesNames) {
  EXPECT_EQ(fields_as_flags("Expected hidden_size divisible by num_attention_heads (3)"),
            "Expected --hidden-size divisible by --num-attention-heads (3)");
  EXPECT_EQ(fields_as_flags("layernorm_epsilon, rope_scaling."),
            "--norm-epsilon, --use-rope-scaling.");
}

TEST(FieldsAsFlags, ReplacesNamesWithValues) {
  EXPECT_EQ(fields_as_flags("should_pad_vocab=false"), "--no-pad-vocab");
  EXPECT_EQ(fields_as_flags("bf16=true and params_dtype=bf16"), "--bf16 and --params-dtype bf16");
  EXPECT_EQ(fields_as_flags("position_embedding_type=rope."), "--position-embedding-type rope.");
  EXPECT_EQ(fields_as_flags("sequence_parallel=false, add_bias_linear=true"),
            "--sequence-parallel=false, --disable-bias-linear=false");
}

TEST(FieldsAsFlags, ReplacesPrefixes) {
  EXPECT_EQ(fields_as_flags("the yarn_* options"), "the --yarn-* options");
}

TEST(FieldsAsFlags, KeepsOtherText) {
  for (const char* text :
       {"bf16 works", "NVTE_FLASH_ATTN=1", "core_attn or mla_up_proj", "'num_layers'",
        "--num_layers", "a normalization of 3", "Et*3|t*4|tL", "no_such_field=3", ""}) {
    EXPECT_EQ(fields_as_flags(text), text);
  }
}

}  // namespace
}  // namespace megatron
