// The table's part that decides what the model is: architecture, vocabulary, weights.
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

TransformerConfig& transformer_of(Options& options) {
  return options.model.transformer;
}
GPTModelConfig& model_of(Options& options) {
  return options.model;
}
MultiTokenPredictionConfig& mtp_of(Options& options) {
  return options.model.transformer.mtp;
}
MupConfig& mup_of(Options& options) {
  return options.model.transformer.mup;
}

// Megatron-LM's rule for SwiGLU: two thirds of 4h, down to a multiple of 64 (here at least 64).
void derive_swiglu_size(Options& options, const std::set<std::string>& given) {
  auto& config = options.model.transformer;
  if (given.contains("ffn_hidden_size") || !config.gated_linear_unit) return;
  if (config.hidden_size > (int64_t{1} << 30)) return;  // refused later
  config.ffn_hidden_size = std::max<int64_t>(64, config.hidden_size * 8 / 3 / 64 * 64);
}

void derive_one_query_group(Options& options, const std::set<std::string>& given) {
  if (!given.contains("num_query_groups")) options.model.transformer.num_query_groups = 1;
}

void add_architecture(OptionTable& table) {
  const auto model = table.group("Model", kModelCommands, &transformer_of, {.architecture = true});
  using T = TransformerConfig;
  model.add(&T::num_layers, {.flag = "num-layers",
                             .help = "Transformer layers",
                             .unit = "layers",
                             .otherwise = "required"});
  model.add(&T::hidden_size, {.flag = "hidden-size",
                              .help = "Width of the residual stream (h)",
                              .unit = "features",
                              .otherwise = "required"});
  model.add(&T::num_attention_heads, {.flag = "num-attention-heads",
                                      .help = "Attention heads (n)",
                                      .unit = "heads",
                                      .otherwise = "required"});
  model.shorthand({.flag = "group-query-attention",
                   .help = "Query groups: one (multi-query attention) unless --num-query-groups "
                           "says how many",
                   .derive = derive_one_query_group});
  model.add(&T::num_query_groups,
            {.flag = "num-query-groups",
             .help = "Groups of heads that share keys and values (g); implies "
                     "--group-query-attention",
             .unit = "groups",
             .otherwise = "one per head"});
  model.add(&T::kv_channels, {.flag = "kv-channels",
                              .help = "Width of a head (d)",
                              .unit = "features",
                              .otherwise = "hidden size / heads"});
  model.add(&T::ffn_hidden_size,
            {.flag = "ffn-hidden-size",
             .help = "Inner width of the MLP (f)",
             .unit = "features",
             .otherwise = "4 x hidden size; with --swiglu 8/3 x, down to a multiple of 64"});
  model.shorthand({.flag = "swiglu",
                   .help = "MLP with SwiGLU: a gated SiLU",
                   .sets = {{"activation_func", "silu"}, {"gated_linear_unit", "true"}},
                   .derive = derive_swiglu_size});
  model.shorthand({.flag = "quick-geglu",
                   .help = "MLP with a gated x * sigmoid(1.702 x)",
                   .sets = {{"activation_func", "quick_gelu"}, {"gated_linear_unit", "true"}},
                   .derive = derive_swiglu_size});
  model.shorthand({.flag = "squared-relu",
                   .help = "MLP with squared ReLU, not gated",
                   .sets = {{"activation_func", "squared_relu"}, {"gated_linear_unit", "false"}}});
  model.add(&T::activation_func, {.flag = "activation-func",
                                  .help = "Activation of the MLP; gelu is the exact erf form"});
  model.add(&T::gated_linear_unit,
            {.flag = "gated-linear-unit",
             .help = "A second projection that is multiplied with the activation"});
  model.add(&T::bias_activation_fusion,
            {.flag = "bias-gelu-fusion",
             .help = "With gelu: its tanh form, as Megatron's fused kernel computes it",
             .field = "bias_activation_fusion"});
  model.shorthand({.flag = "no-bias-gelu-fusion",
                   .help = "The exact erf form of gelu, as by default here",
                   .sets = {{"bias_activation_fusion", "false"}}});
  model.add(&T::normalization, {.flag = "normalization", .help = "Kind of every norm"});
  model.add(&T::layernorm_epsilon, {.flag = "norm-epsilon",
                                    .help = "Added to the variance in every norm",
                                    .unit = "absolute",
                                    .field = "layernorm_epsilon"});
  model.add(&T::add_bias_linear, {.flag = "disable-bias-linear",
                                  .help = "Linear layers without biases",
                                  .field = "add_bias_linear",
                                  .inverted = true});
  model.add(&T::layernorm_zero_centered_gamma,
            {.flag = "apply-layernorm-1p",
             .help = "Norms multiply by 1 + their weight, which starts at 0",
             .field = "layernorm_zero_centered_gamma"});
  model.add(&T::glu_linear_offset,
            {.flag = "glu-linear-offset",
             .help = "Added to what a gated unit's activation is multiplied with (GPT-OSS: 1)",
             .unit = "absolute"});
  model.add(&T::activation_func_clamp_value,
            {.flag = "activation-func-clamp-value",
             .help = "Bound of what enters a gated unit: the activation's side from above, the "
                     "other from both sides (GPT-OSS: 7)",
             .unit = "absolute",
             .otherwise = "no bound"});
  model.add(&T::fp32_residual_connection,
            {.flag = "fp32-residual-connection", .help = "With bf16: the residual stream in fp32"});
  model.add(&T::apply_residual_connection_post_layernorm,
            {.flag = "apply-residual-connection-post-layernorm",
             .help = "The residual is taken behind a layer's norms, not before"});

  const auto gpt = table.group("Model", kModelCommands, &model_of, {.architecture = true});
  gpt.add(&GPTModelConfig::share_embeddings_and_output_weights,
          {.flag = "untie-embeddings-and-output-weights",
           .help = "An output layer with weights of its own",
           .field = "share_embeddings_and_output_weights",
           .inverted = true});
  gpt.add(&GPTModelConfig::vocab_size, {.flag = "vocab-size",
                                        .help = "Size of the vocabulary before padding",
                                        .unit = "tokens",
                                        .otherwise = "the tokenizer's"});

  const auto padding = table.group("Model", kModelCommands, &model_of);
  padding.add(&GPTModelConfig::make_vocab_size_divisible_by,
              {.flag = "make-vocab-size-divisible-by",
               .help = "The embedding's rows are padded to a multiple of this times the tensor "
                       "parallel size; the loss does not see the padding",
               .unit = "tokens"});
  padding.add(&GPTModelConfig::should_pad_vocab, {.flag = "no-pad-vocab",
                                                  .help = "Keep the vocabulary's size as it is",
                                                  .field = "should_pad_vocab",
                                                  .inverted = true});
}

void add_multi_token_prediction(OptionTable& table) {
  using M = MultiTokenPredictionConfig;
  const auto weights =
      table.group("Multi-token prediction", kModelCommands, &mtp_of, {.architecture = true});
  weights.add(&M::mtp_num_layers,
              {.flag = "mtp-num-layers",
               .help = "Further tokens that are predicted in training, by one layer each",
               .unit = "tokens"});
  weights.add(&M::mtp_use_repeated_layer,
              {.flag = "mtp-use-repeated-layer", .help = "The same layer for every further token"});
  const auto loss = table.group("Multi-token prediction", kModelCommands, &mtp_of);
  loss.add(&M::mtp_loss_scaling_factor, {.flag = "mtp-loss-scaling-factor",
                                         .help = "Weight of their mean loss beside the main one",
                                         .unit = "factor"});
  loss.add(&M::mtp_detach_heads,
           {.flag = "mtp-detach-heads",
            .help = "Their loss trains the prediction layers alone, clipped by their own norm"});
}

void add_mup(OptionTable& table) {
  using M = MupConfig;
  const auto group = table.group("MuP", kModelCommands, &mup_of, {.architecture = true});
  group.add(&M::use_mup,
            {.flag = "use-mup",
             .help = "Maximal update parametrization: weights, learning rates and multipliers that "
                     "carry over from a narrow model"});
  group.add(&M::mup_base_hidden_size, {.flag = "mup-base-hidden-size",
                                       .help = "Hidden size of that narrow model",
                                       .unit = "features",
                                       .otherwise = "the hidden size"});
  group.add(
      &M::mup_embedding_mult,
      {.flag = "mup-embedding-mult", .help = "Factor on the embedding's output", .unit = "factor"});
  group.add(&M::mup_output_mult,
            {.flag = "mup-output-mult",
             .help = "Factor on the logits; 1 means base hidden size / hidden size",
             .unit = "factor"});
  group.add(&M::mup_base_head_dim,
            {.flag = "mup-base-head-dim",
             .help = "Width of a head at which attention scores are not rescaled",
             .unit = "features",
             .otherwise = "1"});
  group.add(&M::mup_attn_scale_power,
            {.flag = "mup-attn-scale-power",
             .help = "Scores are scaled by sqrt(base head width) / width^power",
             .unit = "exponent"});
}

void add_weights_and_dropout(OptionTable& table) {
  using T = TransformerConfig;
  const auto group =
      table.group("Regularization and initial weights", kModelCommands, &transformer_of);
  group.add(&T::hidden_dropout, {.flag = "hidden-dropout",
                                 .help = "Dropout of embeddings and of what enters the residual",
                                 .unit = "probability"});
  group.add(&T::attention_dropout, {.flag = "attention-dropout",
                                    .help = "Dropout of the attention probabilities",
                                    .unit = "probability"});
  group.add(&T::init_method_std,
            {.flag = "init-method-std",
             .help = "Standard deviation of the initial weights; output projections get it "
                     "divided by sqrt(2 layers)",
             .unit = "standard deviation"});
  group.add(&T::embedding_init_method_std, {.flag = "embedding-init-method-std",
                                            .help = "The same for the embeddings",
                                            .unit = "standard deviation",
                                            .otherwise = "that of the other weights"});
}

}  // namespace

void add_model_options(OptionTable& table) {
  add_architecture(table);
  add_attention_options(table);
  add_position_options(table);
  add_multi_token_prediction(table);
  add_mup(table);
  add_weights_and_dropout(table);
}

}  // namespace megatron
