// The table's part that decides what the model is: architecture, positions, vocabulary, weights.
#include "megatron/config/option_table.h"

namespace megatron {
namespace {

constexpr CommandSet kModelCommands = commands(Command::train, Command::bench);

TransformerConfig& transformer_of(Options& options) {
  return options.model.transformer;
}
GPTModelConfig& model_of(Options& options) {
  return options.model;
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
  model.add(&T::add_qkv_bias,
            {.flag = "add-qkv-bias", .help = "A bias in the query-key-value projection only"});
  model.add(&T::softmax_scale, {.flag = "softmax-scale",
                                .help = "Factor on the attention scores",
                                .unit = "factor",
                                .otherwise = "1 / sqrt(head width)"});

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

void add_positions(OptionTable& table) {
  const auto positions =
      table.group("Positions", kModelCommands, &model_of, {.architecture = true});
  using M = GPTModelConfig;
  positions.add(&M::position_embedding_type,
                {.flag = "position-embedding-type", .help = "How positions enter the model"});
  positions.shorthand({.flag = "use-rotary-position-embeddings",
                       .help = "The same as --position-embedding-type rope",
                       .sets = {{"position_embedding_type", "rope"}}});
  positions.add(&M::max_position_embeddings, {.flag = "max-position-embeddings",
                                              .help = "Rows of the learned position embedding",
                                              .unit = "positions",
                                              .otherwise = "the sequence length",
                                              .field_aliases = {"max_sequence_length"}});
  positions.add(&M::rotary_percent, {.flag = "rotary-percent",
                                     .help = "Share of a head's features that is rotated",
                                     .unit = "fraction"});
  positions.add(
      &M::rotary_base,
      {.flag = "rotary-base", .help = "Base of the rotary frequencies (theta)", .unit = "factor"});
  positions.add(&M::seq_len_interpolation_factor,
                {.flag = "rotary-seq-len-interpolation-factor",
                 .help = "Divides the positions, to stretch a trained context",
                 .unit = "factor",
                 .field = "seq_len_interpolation_factor",
                 .otherwise = "1"});
  positions.add(&M::rope_scaling, {.flag = "use-rope-scaling",
                                   .help = "Rescale the rotary frequencies as Llama 3.1 does",
                                   .field = "rope_scaling"});
  positions.add(
      &M::rope_scaling_factor,
      {.flag = "rope-scaling-factor", .help = "Factor of that rescaling", .unit = "factor"});
  const auto rotary =
      table.group("Positions", kModelCommands, &transformer_of, {.architecture = true});
  rotary.add(&TransformerConfig::rotary_interleaved,
             {.flag = "rotary-interleaved",
              .help = "Rotate neighbouring features, not the two halves of a head"});
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
  add_positions(table);
  add_weights_and_dropout(table);
}

}  // namespace megatron
