// Options of the model: architecture, vocabulary, MTP, MuP, initial weights.
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

// Megatron-LM's rule for gated units: two thirds of 4h, rounded down to a multiple of 64. Here at
// least 64.
void derive_swiglu_size(Options& options, const std::set<std::string>& given) {
  auto& config = options.model.transformer;
  if (given.contains("ffn_hidden_size") || !config.gated_linear_unit) return;
  if (config.hidden_size > (int64_t{1} << 30)) return;  // check_model refuses it
  config.ffn_hidden_size = std::max<int64_t>(64, config.hidden_size * 8 / 3 / 64 * 64);
}

void derive_one_query_group(Options& options, const std::set<std::string>& given) {
  if (!given.contains("num_query_groups")) options.model.transformer.num_query_groups = 1;
}

void add_architecture(OptionTable& table) {
  const auto model = table.group("Model", kModelCommands, &transformer_of, {.architecture = true});
  using T = TransformerConfig;
  model.add(&T::num_layers, {.flag = "num-layers",
                             .help = "Number of transformer layers",
                             .unit = "layers",
                             .otherwise = "required"});
  model.add(&T::hidden_size, {.flag = "hidden-size",
                              .help = "Hidden size (h)",
                              .unit = "features",
                              .otherwise = "required"});
  model.add(&T::num_attention_heads, {.flag = "num-attention-heads",
                                      .help = "Number of attention heads (n)",
                                      .unit = "heads",
                                      .otherwise = "required"});
  model.shorthand({.flag = "group-query-attention",
                   .help = "Grouped-query attention; a single group (multi-query attention) unless "
                           "--num-query-groups is given",
                   .derive = derive_one_query_group});
  model.add(&T::num_query_groups,
            {.flag = "num-query-groups",
             .help = "Number of query groups, which share keys and values (g); implies "
                     "--group-query-attention",
             .unit = "groups",
             .otherwise = "one per head"});
  model.add(&T::kv_channels, {.flag = "kv-channels",
                              .help = "Dimension of an attention head (d)",
                              .unit = "features",
                              .otherwise = "hidden size / number of heads"});
  model.add(
      &T::ffn_hidden_size,
      {.flag = "ffn-hidden-size",
       .help = "Intermediate size of the MLP (f)",
       .unit = "features",
       .otherwise = "4 x hidden size; with --swiglu 8/3 x, rounded down to a multiple of 64"});
  model.shorthand({.flag = "swiglu",
                   .help = "SwiGLU: SiLU in a gated linear unit",
                   .sets = {{"activation_func", "silu"}, {"gated_linear_unit", "true"}},
                   .derive = derive_swiglu_size});
  model.shorthand({.flag = "quick-geglu",
                   .help = "Gated linear unit with quick GELU, x * sigmoid(1.702 x)",
                   .sets = {{"activation_func", "quick_gelu"}, {"gated_linear_unit", "true"}},
                   .derive = derive_swiglu_size});
  model.shorthand({.flag = "squared-relu",
                   .help = "Squared ReLU, not gated",
                   .sets = {{"activation_func", "squared_relu"}, {"gated_linear_unit", "false"}}});
  model.add(
      &T::activation_func,
      {.flag = "activation-func",
       .help = "Activation function of the MLP; gelu is the exact (erf) form, openai_gelu the tanh "
               "form"});
  model.shorthand({.flag = "openai-gelu",
                   .help = "Same as --activation-func openai_gelu",
                   .sets = {{"activation_func", "openai_gelu"}}});
  model.add(&T::gated_linear_unit,
            {.flag = "gated-linear-unit",
             .help = "Gated linear unit: a second projection is multiplied by the activation"});
  model.add(&T::bias_activation_fusion,
            {.flag = "bias-gelu-fusion",
             .help = "With gelu: use the tanh form, as Megatron's fused kernel does",
             .field = "bias_activation_fusion"});
  model.shorthand({.flag = "no-bias-gelu-fusion",
                   .help = "Exact (erf) form of gelu, the default here",
                   .sets = {{"bias_activation_fusion", "false"}}});
  model.add(&T::normalization,
            {.flag = "normalization", .help = "Type of all normalization layers"});
  model.add(&T::layernorm_epsilon, {.flag = "norm-epsilon",
                                    .help = "Epsilon added to the variance in normalization layers",
                                    .unit = "absolute",
                                    .field = "layernorm_epsilon"});
  model.add(&T::add_bias_linear, {.flag = "disable-bias-linear",
                                  .help = "No biases in linear layers",
                                  .field = "add_bias_linear",
                                  .inverted = true});
  model.add(&T::add_proj_bias, {.flag = "add-proj-bias",
                                .help = "Bias in the output projection of attention",
                                .otherwise = "as the other linear layers"});
  model.add(&T::add_mlp_bias, {.flag = "add-mlp-bias",
                               .help = "Biases in the MLP",
                               .otherwise = "as the other linear layers"});
  model.add(
      &T::layernorm_zero_centered_gamma,
      {.flag = "apply-layernorm-1p",
       .help = "Zero-centered norm weights: scale by 1 + weight, with weight initialized to 0",
       .field = "layernorm_zero_centered_gamma"});
  model.add(&T::layernorm_bias, {.flag = "no-layernorm-bias",
                                 .help = "LayerNorm without bias",
                                 .field = "layernorm_bias",
                                 .inverted = true});
  model.add(&T::norm_placement,
            {.flag = "norm-placement",
             .help = "Norms of the attention and MLP branches: of their input (before), of their "
                     "output before it is added to the residual (after, as OLMo 2), or both "
                     "(around, as Gemma 2)"});
  model.add(&T::use_parallel_residual,
            {.flag = "use-parallel-residual",
             .help = "Attention and MLP both read the layer's input, and both are added to it "
                     "(GPT-NeoX)"});
  model.add(&T::share_parallel_layernorm,
            {.flag = "share-parallel-layernorm",
             .help = "With --use-parallel-residual: one norm for attention and MLP (Cohere)"});
  model.add(&T::embedding_multiplier, {.flag = "embedding-multiplier",
                                       .help = "Multiplier of the embedding's output (Gemma: "
                                               "square root of the hidden size, which is rounded "
                                               "to the type of the activations)",
                                       .unit = "factor"});
  model.add(&T::residual_multiplier,
            {.flag = "residual-multiplier",
             .help = "Multiplier of the attention and MLP outputs before they are added to the "
                     "residual (Granite)",
             .unit = "factor"});
  model.add(&T::logit_multiplier, {.flag = "logit-multiplier",
                                   .help = "Multiplier of the logits (Cohere, Granite)",
                                   .unit = "factor"});
  model.add(&T::final_logit_softcapping,
            {.flag = "final-logit-softcapping",
             .help = "Soft cap of the logits, after their multiplier: cap * tanh(logit / cap)",
             .unit = "absolute",
             .otherwise = "not capped"});
  model.add(&T::glu_linear_offset,
            {.flag = "glu-linear-offset",
             .help = "Offset of the linear half of a gated linear unit (GPT-OSS: 1)",
             .unit = "absolute"});
  model.add(
      &T::activation_func_clamp_value,
      {.flag = "activation-func-clamp-value",
       .help =
           "Clamp the inputs of a gated linear unit: the gate from above, the linear half on both "
           "sides (GPT-OSS: 7)",
       .unit = "absolute",
       .otherwise = "not clamped"});
  model.add(&T::fp32_residual_connection, {.flag = "fp32-residual-connection",
                                           .help = "With bf16: keep the residual stream in fp32"});
  model.add(&T::apply_residual_connection_post_layernorm,
            {.flag = "apply-residual-connection-post-layernorm",
             .help = "Take the residual after the layer norms instead of before"});

  const auto gpt = table.group("Model", kModelCommands, &model_of, {.architecture = true});
  gpt.add(&GPTModelConfig::share_embeddings_and_output_weights,
          {.flag = "untie-embeddings-and-output-weights",
           .help = "Separate weights for embedding and output layer",
           .field = "share_embeddings_and_output_weights",
           .inverted = true});
  gpt.add(&GPTModelConfig::add_output_layer_bias,
          {.flag = "add-output-layer-bias", .help = "Bias in the output layer"});
  gpt.add(&GPTModelConfig::vocab_size, {.flag = "vocab-size",
                                        .help = "Vocabulary size before padding",
                                        .unit = "tokens",
                                        .otherwise = "the vocabulary size of the tokenizer"});

  const auto modules =
      table.group("Model", kModelCommands | commands(Command::parity), &transformer_of);
  modules.add(&T::transformer_impl,
              {.flag = "transformer-impl",
               .help = "Modules of the layers: separate norms and linears (local), or each norm "
                       "fused into the linear that consumes it"});
  const auto layers = table.group("Model", kModelCommands | commands(Command::parity), &model_of);
  layers.add(
      &GPTModelConfig::use_transformer_engine_full_layer_spec,
      {.flag = "use-transformer-engine-full-layer-spec",
       .help = "Build each layer as one fused module. Parameters are bf16 with --bf16; only C++ "
               "callers can keep fp32 ones, with layers under autocast to bf16"});
  layers.add(&GPTModelConfig::use_transformer_engine_op_fuser,
             {.flag = "use-transformer-engine-op-fuser",
              .help = "Run each MLP with its norm as one operator, which keeps neither the "
                      "normalized input nor the output of the activation for backward"});

  const auto padding = table.group("Model", kModelCommands, &model_of);
  padding.add(
      &GPTModelConfig::make_vocab_size_divisible_by,
      {.flag = "make-vocab-size-divisible-by",
       .help = "Pad the vocabulary to a multiple of this times the tensor parallel size; the loss "
               "does not depend on the padding",
       .unit = "tokens"});
  padding.add(&GPTModelConfig::should_pad_vocab, {.flag = "no-pad-vocab",
                                                  .help = "Do not pad the vocabulary",
                                                  .field = "should_pad_vocab",
                                                  .inverted = true});
}

void add_multi_token_prediction(OptionTable& table) {
  using M = MultiTokenPredictionConfig;
  const auto weights =
      table.group("Multi-token prediction", kModelCommands, &mtp_of, {.architecture = true});
  weights.add(
      &M::mtp_num_layers,
      {.flag = "mtp-num-layers",
       .help = "Number of multi-token prediction (MTP) layers; each predicts one more token in "
               "training",
       .unit = "layers"});
  weights.add(&M::mtp_use_repeated_layer,
              {.flag = "mtp-use-repeated-layer", .help = "Share one layer between all MTP depths"});
  const auto loss = table.group("Multi-token prediction", kModelCommands, &mtp_of);
  loss.add(
      &M::mtp_loss_scaling_factor,
      {.flag = "mtp-loss-scaling-factor", .help = "Weight of the mean MTP loss", .unit = "factor"});
  loss.add(&M::mtp_detach_heads,
           {.flag = "mtp-detach-heads",
            .help = "Train only the MTP layers on the MTP loss; their gradients are clipped by "
                    "their own norm"});
}

void add_mup(OptionTable& table) {
  using M = MupConfig;
  const auto group = table.group("MuP", kModelCommands, &mup_of, {.architecture = true});
  group.add(
      &M::use_mup,
      {.flag = "use-mup",
       .help =
           "Maximal update parametrization (MuP): initial weights, learning rates and multipliers "
           "that transfer from a narrower base model"});
  group.add(&M::mup_base_hidden_size, {.flag = "mup-base-hidden-size",
                                       .help = "Hidden size of the base model",
                                       .unit = "features",
                                       .otherwise = "the hidden size"});
  group.add(&M::mup_embedding_mult, {.flag = "mup-embedding-mult",
                                     .help = "Multiplier of the embedding's output",
                                     .unit = "factor"});
  group.add(&M::mup_output_mult,
            {.flag = "mup-output-mult",
             .help = "Multiplier of the logits; 1 means base hidden size / hidden size",
             .unit = "factor"});
  group.add(&M::mup_base_head_dim,
            {.flag = "mup-base-head-dim",
             .help = "Head dimension of the base model, at which attention scores are not rescaled",
             .unit = "features",
             .otherwise = "1"});
  group.add(
      &M::mup_attn_scale_power,
      {.flag = "mup-attn-scale-power",
       .help = "Attention scores are scaled by sqrt(base head dimension) / (head dimension)^power",
       .unit = "exponent"});
}

void add_weights_and_dropout(OptionTable& table) {
  using T = TransformerConfig;
  const auto group =
      table.group("Regularization and initial weights", kModelCommands, &transformer_of);
  group.add(&T::hidden_dropout, {.flag = "hidden-dropout",
                                 .help = "Dropout of the embedding and of the residual branches",
                                 .unit = "probability"});
  group.add(&T::attention_dropout, {.flag = "attention-dropout",
                                    .help = "Dropout of the attention probabilities",
                                    .unit = "probability"});
  group.add(
      &T::init_method_std,
      {.flag = "init-method-std",
       .help = "Standard deviation of the initial weights; divided by sqrt(2 x layers) for output "
               "projections",
       .unit = "standard deviation"});
  group.add(&T::embedding_init_method_std,
            {.flag = "embedding-init-method-std",
             .help = "Standard deviation of the initial embedding weights",
             .unit = "standard deviation",
             .otherwise = "--init-method-std"});
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
