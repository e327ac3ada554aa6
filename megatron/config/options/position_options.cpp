// Options of position embeddings.
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
  positions.add(&M::position_embedding_type, {.flag = "position-embedding-type",
                                              .help = "Type of position embedding",
                                              .extends_context = true});
  positions.shorthand({.flag = "use-rotary-position-embeddings",
                       .help = "Same as --position-embedding-type rope",
                       .sets = {{"position_embedding_type", "rope"}}});
  positions.add(
      &M::max_position_embeddings,
      {.flag = "max-position-embeddings",
       .help = "Rows of the learned position embedding; for other types, which have no maximum, "
               "the number that config.json of an export names",
       .unit = "positions",
       .otherwise = "the sequence length",
       .field_aliases = {"max_sequence_length"}});
  positions.add(&M::rotary_percent, {.flag = "rotary-percent",
                                     .help = "Fraction of the head dimension that is rotated",
                                     .unit = "fraction"});
  positions.add(&M::rotary_base, {.flag = "rotary-base",
                                  .help = "Base of the rotary frequencies (theta)",
                                  .unit = "factor",
                                  .extends_context = true});
  positions.add(&M::rotary_base_local,
                {.flag = "rotary-base-local",
                 .help = "Base of the rotary frequencies in layers with a window, where no scaling "
                         "and no YaRN applies (Gemma 3)",
                 .unit = "factor",
                 .otherwise = "as in the other layers",
                 .extends_context = true});
  positions.add(&M::seq_len_interpolation_factor,
                {.flag = "rotary-seq-len-interpolation-factor",
                 .help = "Divide positions by this factor to extend the context",
                 .unit = "factor",
                 .field = "seq_len_interpolation_factor",
                 .otherwise = "1",
                 .extends_context = true});
  positions.add(&M::rope_scaling, {.flag = "use-rope-scaling",
                                   .help = "Scale the rotary frequencies as Llama 3.1 does",
                                   .field = "rope_scaling",
                                   .extends_context = true});
  positions.add(&M::rope_scaling_factor, {.flag = "rope-scaling-factor",
                                          .help = "Factor of --use-rope-scaling",
                                          .unit = "factor",
                                          .extends_context = true});
  positions.add(&M::rope_scaling_low_freq_factor,
                {.flag = "rope-scaling-low-freq-factor",
                 .help = "With --use-rope-scaling: wavelengths above the original length divided "
                         "by this are scaled in full",
                 .unit = "factor",
                 .extends_context = true});
  positions.add(&M::rope_scaling_high_freq_factor,
                {.flag = "rope-scaling-high-freq-factor",
                 .help = "With --use-rope-scaling: wavelengths below the original length divided "
                         "by this are kept",
                 .unit = "factor",
                 .extends_context = true});
  positions.add(&M::rope_scaling_original_max_position_embeddings,
                {.flag = "rope-scaling-original-max-position-embeddings",
                 .help = "Context length before --use-rope-scaling, dynamic scaling or longrope",
                 .unit = "positions",
                 .extends_context = true});
  positions.add(&M::rope_dynamic_scaling_factor,
                {.flag = "rope-dynamic-scaling-factor",
                 .help = "Dynamic NTK scaling: sequences longer than the original length have a "
                         "larger base",
                 .unit = "factor",
                 .otherwise = "not scaled",
                 .extends_context = true});
  positions.add(&M::longrope_short_factor,
                {.flag = "longrope-short-factor",
                 .help = "longrope: divisor of each frequency, for sequences up to the original "
                         "length",
                 .unit = "factors",
                 .extends_context = true});
  positions.add(&M::longrope_long_factor,
                {.flag = "longrope-long-factor",
                 .help = "longrope: divisor of each frequency, for longer sequences",
                 .unit = "factors",
                 .extends_context = true});
  positions.add(&M::longrope_mscale, {.flag = "longrope-mscale",
                                      .help = "longrope: factor of cosine and sine",
                                      .unit = "factor",
                                      .extends_context = true});
  const auto rotary = table.group("Positions", kModelCommands, &rotary_of, {.architecture = true});
  rotary.add(&TransformerConfig::rotary_interleaved,
             {.flag = "rotary-interleaved",
              .help = "Rotate adjacent features instead of the two halves of a head"});
  rotary.add(&TransformerConfig::mrope_section,
             {.flag = "mrope-section",
              .help = "With mrope: number of frequencies for time, height and width",
              .unit = "frequencies"});
  rotary.add(
      &TransformerConfig::no_rope_freq,
      {.flag = "no-rope-freq",
       .help =
           "Layers without rotary embedding: every Nth; or one entry per layer, 1 (without) or 0 "
           "(with)",
       .unit = "layers"});
}

}  // namespace

void add_yarn_options(OptionTable& table, const std::string& section,
                      YarnConfig& (*locate)(Options&), const std::string& prefix) {
  using Y = YarnConfig;
  const auto yarn =
      table.group(section, kModelCommands, locate, {.architecture = true, .extends_context = true});
  yarn.add(&Y::rotary_scaling_factor, {.flag = prefix + "rotary-scaling-factor",
                                       .help = "YaRN: context extension factor",
                                       .unit = "factor"});
  yarn.add(&Y::original_max_position_embeddings,
           {.flag = prefix + "original-max-position-embeddings",
            .help = "YaRN: context length before the extension",
            .unit = "positions"});
  yarn.add(
      &Y::beta_fast,
      {.flag = prefix + "beta-fast",
       .help = "YaRN: frequencies with more rotations than this over the original context are kept",
       .unit = "rotations"});
  yarn.add(&Y::beta_slow,
           {.flag = prefix + "beta-slow",
            .help = "YaRN: frequencies with fewer rotations than this are interpolated",
            .unit = "rotations"});
  yarn.add(&Y::mscale,
           {.flag = prefix + "mscale",
            .help = "YaRN: scale of the rotated features, as a factor of log(extension factor)",
            .unit = "factor"});
  yarn.add(&Y::mscale_all_dim,
           {.flag = prefix + "mscale-all-dim",
            .help = "YaRN: part of --" + prefix +
                    "mscale that is divided out again; with MLA it scales all attention scores",
            .unit = "factor"});
  yarn.add(&Y::correction_range_round_to_int,
           {.flag = "no-" + prefix + "correction-range-round-to-int",
            .help = "YaRN: do not round the range of interpolated frequencies",
            .field = with_underscores(prefix) + "correction_range_round_to_int",
            .inverted = true});
}

void add_position_options(OptionTable& table) {
  add_rotary(table);
  add_yarn_options(table, "Positions", &yarn_of, "yarn-");
}

}  // namespace megatron
