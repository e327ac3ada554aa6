// The model that verify-layout trains: defaults, precision, and scaling down.
#include "megatron/verify/verification_model.h"

#include <gtest/gtest.h>

#include "megatron/config/options/command_line.h"
#include "megatron/verify/option_flags.h"

namespace megatron {
namespace {

Options completed(const std::string& flags) {
  ParsedCommand command = parse_options(Command::verify_layout, split_flags(flags));
  complete_verification_model(command.options, command.given);
  return command.options;
}

TEST(VerificationModel, IsTheDefaultModelWithoutArchitecture) {
  const Options options = completed("--hidden-dropout 0.2 --lr 1e-3");
  const TransformerConfig& t = options.model.transformer;
  EXPECT_EQ(t.num_layers, 4);
  EXPECT_EQ(t.hidden_size, 64);
  EXPECT_EQ(t.num_attention_heads, 4);
  EXPECT_EQ(t.query_groups(), 2);
  EXPECT_TRUE(t.gated_linear_unit);
  EXPECT_EQ(t.activation_func, ActivationFunction::silu);
  EXPECT_EQ(options.model.position_embedding_type, PositionEmbeddingType::rope);
  EXPECT_EQ(t.hidden_dropout, 0.2);
  EXPECT_EQ(t.attention_dropout, 0.1);
  EXPECT_EQ(t.params_dtype, at::kDouble);
}

TEST(VerificationModel, IsTheGivenOneWithDefaultSizes) {
  const Options options = completed("--num-layers 6 --vocab-size 77 --seq-length 48");
  const TransformerConfig& t = options.model.transformer;
  EXPECT_EQ(t.num_layers, 6);
  EXPECT_EQ(t.hidden_size, 64);
  EXPECT_EQ(t.query_groups(), 4);
  EXPECT_FALSE(t.gated_linear_unit);
  EXPECT_EQ(options.model.position_embedding_type, PositionEmbeddingType::learned_absolute);
  EXPECT_EQ(options.model.vocab_size, 77);
  EXPECT_EQ(options.model.seq_length, 48);
}

TEST(VerificationModel, ComputesInFp64) {
  const Options options =
      completed("--bf16 --fp32-residual-connection --fp16-lm-cross-entropy --grad-reduce-in-bf16");
  EXPECT_EQ(options.model.transformer.params_dtype, at::kDouble);
  EXPECT_FALSE(options.model.transformer.bf16);
  EXPECT_FALSE(options.model.transformer.fp32_residual_connection);
  EXPECT_FALSE(options.model.fp16_lm_cross_entropy);
  EXPECT_TRUE(options.ddp.grad_reduce_in_fp32);
  EXPECT_EQ(options.optimizer.adam_eps, 1e-5);
  EXPECT_EQ(completed("--optimizer sgd").optimizer.adam_eps, OptimizerConfig().adam_eps);
  EXPECT_EQ(completed("--adam-eps 1e-3").optimizer.adam_eps, 1e-3);
}

constexpr const char* kLlama =
    "--num-layers 32 --hidden-size 4096 --num-attention-heads 32 --num-query-groups 8 "
    "--ffn-hidden-size 14336 --vocab-size 128256 --seq-length 8192 --swiglu "
    "--normalization RMSNorm --use-rotary-position-embeddings --disable-bias-linear "
    "--untie-embeddings-and-output-weights";

TEST(ShrinkModel, KeepsWhatTheModelIs) {
  Options options = completed(kLlama);
  shrink_model(options, {});
  const TransformerConfig& t = options.model.transformer;
  EXPECT_EQ(t.num_layers, 4);
  EXPECT_EQ(t.num_attention_heads / t.query_groups(), 4);  // as in the full model
  EXPECT_EQ(t.query_groups(), 4);
  EXPECT_EQ(t.head_dim(), 16);
  EXPECT_EQ(t.hidden_size, 256);
  EXPECT_EQ(t.ffn_size(), 896);  // 3.5 x
  EXPECT_EQ(options.model.vocab_size, 250);
  EXPECT_EQ(options.model.seq_length, 32);
  EXPECT_TRUE(t.gated_linear_unit);
  EXPECT_FALSE(options.model.share_embeddings_and_output_weights);
}

TEST(ShrinkModel, KeepsRoomForTheLayouts) {
  Options options = completed(kLlama);
  const auto layouts = layouts_from_names({"tp8+sp,pp4+vp2,cp8"});
  shrink_model(options, layouts);
  EXPECT_EQ(options.model.transformer.query_groups(), 8);
  EXPECT_EQ(options.model.transformer.num_layers, 8);
  EXPECT_EQ(options.model.seq_length % 16, 0);
  for (const NamedLayout& layout : layouts) EXPECT_EQ(misfit(layout, options), "") << layout.name;
}

TEST(ShrinkModel, LeavesASmallModelAsItIs) {
  Options options = completed("");
  const std::string before = describe_model(options) + describe_verification(options);
  shrink_model(options, {});
  EXPECT_EQ(describe_model(options) + describe_verification(options), before);
}

TEST(ShrinkModel, ScalesTheOptionsThatFollowSizes) {
  Options options = completed(
      "--num-layers 12 --hidden-size 768 --num-attention-heads 12 --seq-length 512 "
      "--position-embedding-type mrope --mrope-section 12,10,10 --window-size 127,0 "
      "--no-rope-freq 0,1,0,1,0,1,0,1,0,1,0,1 --use-mup --mup-base-hidden-size 192");
  shrink_model(options, {});
  const TransformerConfig& t = options.model.transformer;
  EXPECT_EQ(misfit(layout_from_name("dp2"), options), "");
  EXPECT_EQ(t.no_rope_freq, (std::vector<int64_t>{0, 1, 0, 1}));
  EXPECT_EQ(t.window_size, (std::vector<int64_t>{8, 0}));
  EXPECT_EQ(t.mrope_section, (std::vector<int64_t>{4, 2, 2}));
  EXPECT_EQ(t.mup_width_mult(), 4);
}

TEST(ShrinkModel, KeepsLatentAttention) {
  Options options = completed(
      "--num-layers 27 --hidden-size 2048 --num-attention-heads 16 --multi-latent-attention "
      "--position-embedding-type rope --kv-lora-rank 512 --qk-head-dim 128 "
      "--qk-pos-emb-head-dim 64 --v-head-dim 128");
  shrink_model(options, {});
  EXPECT_TRUE(options.model.transformer.mla.multi_latent_attention);
  EXPECT_EQ(options.model.transformer.mla.kv_lora_rank, 16);
  EXPECT_EQ(misfit(layout_from_name("tp2+sp"), options), "");
}

}  // namespace
}  // namespace megatron
