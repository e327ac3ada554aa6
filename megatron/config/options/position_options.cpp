// The table's part about positions: learned, rotary and its rescalings.
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

GPTModelConfig& positions_of(Options& options) {
  return options.model;
}
TransformerConfig& rotary_of(Options& options) {
  return options.model.transformer;
}
YarnConfig& yarn_of(Options& options) {
  return options.model.transformer.yarn;
}

void add_rotary(OptionTable& table) {
  const auto positions =
      table.group("Positions", kModelCommands, &positions_of, {.architecture = true});
  using M = GPTModelConfig;
  positions.add(&M::position_embedding_type,
                {.flag = "position-embedding-type", .help = "How positions enter the model"});
  positions.shorthand({.flag = "use-rotary-position-embeddings",
                       .help = "The same as --position-embedding-type rope",
                       .sets = {{"position_embedding_type", "rope"}}});
  positions.add(&M::max_position_embeddings,
                {.flag = "max-position-embeddings",
                 .help = "Rows of the learned position embedding; other positions have no "
                         "such bound",
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
  const auto rotary = table.group("Positions", kModelCommands, &rotary_of, {.architecture = true});
  rotary.add(&TransformerConfig::rotary_interleaved,
             {.flag = "rotary-interleaved",
              .help = "Rotate neighbouring features, not the two halves of a head"});
  rotary.add(&TransformerConfig::mrope_section,
             {.flag = "mrope-section",
              .help = "With mrope: how many frequencies follow time, height and width",
              .unit = "frequencies"});
  rotary.add(&TransformerConfig::no_rope_freq,
             {.flag = "no-rope-freq",
              .help = "Every such layer goes without rotary positions; or a 0 or 1 (without) by "
                      "layer",
              .unit = "layers"});
}

}  // namespace

void add_yarn_options(OptionTable& table, const std::string& section,
                      YarnConfig& (*locate)(Options&), const std::string& prefix) {
  using Y = YarnConfig;
  const auto yarn = table.group(section, kModelCommands, locate, {.architecture = true});
  yarn.add(&Y::rotary_scaling_factor, {.flag = prefix + "rotary-scaling-factor",
                                       .help = "With YaRN: how many times longer the context gets",
                                       .unit = "factor"});
  yarn.add(&Y::original_max_position_embeddings,
           {.flag = prefix + "original-max-position-embeddings",
            .help = "The context before that",
            .unit = "positions"});
  yarn.add(&Y::beta_fast, {.flag = prefix + "beta-fast",
                           .help = "Frequencies with more turns in that context are kept",
                           .unit = "turns"});
  yarn.add(&Y::beta_slow, {.flag = prefix + "beta-slow",
                           .help = "Frequencies with fewer turns are interpolated",
                           .unit = "turns"});
  yarn.add(&Y::mscale, {.flag = prefix + "mscale",
                        .help = "Growth of the rotated features with the logarithm of the factor",
                        .unit = "factor"});
  yarn.add(&Y::mscale_all_dim,
           {.flag = prefix + "mscale-all-dim",
            .help = "The part of that growth that is divided out again; with latent attention all "
                    "scores grow by it",
            .unit = "factor"});
  yarn.add(&Y::correction_range_round_to_int,
           {.flag = "no-" + prefix + "correction-range-round-to-int",
            .help = "Do not round the range of frequencies between kept and interpolated",
            .field = with_underscores(prefix) + "correction_range_round_to_int",
            .inverted = true});
}

void add_position_options(OptionTable& table) {
  add_rotary(table);
  add_yarn_options(table, "Positions", &yarn_of, "yarn-");
}

}  // namespace megatron
