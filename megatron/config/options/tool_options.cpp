// The table's part about the other subcommands: generation, benchmark, parity, datasets,
// inspection.
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

constexpr CommandSet kGenerate = commands(Command::generate);
constexpr CommandSet kBench = commands(Command::bench);
constexpr CommandSet kParity = commands(Command::parity);
constexpr CommandSet kPreprocess = commands(Command::preprocess);
constexpr CommandSet kInspect = commands(Command::inspect);
constexpr CommandSet kVerifyLayout = commands(Command::verify_layout);

Options& all_of(Options& options) {
  return options;
}
GenerationConfig& generation_of(Options& options) {
  return options.generation;
}
BenchConfig& bench_of(Options& options) {
  return options.bench;
}
ParityConfig& parity_of(Options& options) {
  return options.parity;
}
PreprocessConfig& preprocess_of(Options& options) {
  return options.preprocess;
}
TokenizeConfig& tokenize_of(Options& options) {
  return options.tokenize;
}
VerifyLayoutConfig& verify_layout_of(Options& options) {
  return options.verify_layout;
}
InspectConfig& inspect_of(Options& options) {
  return options.inspect;
}
OptionListConfig& option_list_of(Options& options) {
  return options.option_list;
}

void add_generation(OptionTable& table) {
  using G = GenerationConfig;
  const auto group = table.group("Generation", kGenerate, &generation_of);
  group.add(&G::prompt, {.flag = "prompt", .help = "Text to go on from", .otherwise = "none"});
  group.add(&G::max_new_tokens, {.flag = "max-new-tokens",
                                 .help = "Length of what is generated",
                                 .unit = "tokens",
                                 .flag_aliases = {"num-tokens-to-generate"}});
  group.add(&G::temperature, {.flag = "temperature",
                              .help = "Divides the logits; 0 always takes the likeliest token",
                              .unit = "factor"});
  group.shorthand(
      {.flag = "greedy", .help = "The same as --temperature 0", .sets = {{"temperature", "0"}}});
  group.add(&G::top_k, {.flag = "top-k",
                        .help = "Draw from the likeliest tokens only; 0 from all",
                        .unit = "tokens"});
  group.add(&G::top_p, {.flag = "top-p",
                        .help = "Draw from the likeliest tokens of this total probability; 0 from "
                                "all",
                        .unit = "probability"});
  group.add(&G::num_samples,
            {.flag = "num-samples", .help = "Texts to generate", .unit = "samples"});
}

void add_datasets(OptionTable& table) {
  using P = PreprocessConfig;
  const auto group = table.group("Dataset", kPreprocess, &preprocess_of);
  group.add(&P::input, {.flag = "input",
                        .help = "Files to read: .jsonl holds one document a line, others are one "
                                "document each",
                        .required_by = kPreprocess});
  group.add(&P::output_prefix, {.flag = "output-prefix",
                                .help = "The files to write are PREFIX_KEY_document.bin and .idx",
                                .required_by = kPreprocess});
  group.add(&P::json_keys,
            {.flag = "json-keys", .help = "Keys of a JSON line whose texts are taken"});
  group.add(&P::workers, {.flag = "workers", .help = "Threads that tokenize", .unit = "threads"});
  group.add(&P::append_eod,
            {.flag = "append-eod", .help = "End every document with the end-of-document token"});
  group.add(&P::document_start,
            {.flag = "document-start",
             .help = "Regular expression for the lines of a text file that open a document",
             .otherwise = "one document a file"});
  group.add(
      &P::statistics,
      {.flag = "statistics",
       .help = "Count tokens and pairs of them in 95% of the documents, and print how well that "
               "predicts the rest; holds all tokens in memory"});

  const auto tokenize = table.group("Tokenizing", commands(Command::tokenize), &tokenize_of);
  tokenize.add(&TokenizeConfig::decode,
               {.flag = "decode", .help = "From token ids on standard input to text"});
}

void add_checks(OptionTable& table) {
  const auto bench = table.group("Benchmark", kBench, &bench_of);
  bench.add(&BenchConfig::steps, {.flag = "steps", .help = "Steps to measure", .unit = "steps"});
  bench.add(&BenchConfig::warmup_steps,
            {.flag = "warmup-steps", .help = "Steps before that, not measured", .unit = "steps"});

  using P = ParityConfig;
  const auto parity = table.group("Parity", kParity, &parity_of);
  parity.add(&P::case_file, {.flag = "case-file",
                             .help = "The case: a JSON file with a .safetensors file beside it",
                             .positional = true,
                             .required_by = kParity});
  parity.add(&P::tolerance,
             {.flag = "tolerance", .help = "Multiplies every bound", .unit = "factor"});
  const auto output = table.group(
      "Output", commands(Command::parity, Command::inspect, Command::verify_layout), &parity_of);
  output.add(&P::json, {.flag = "json",
                        .help = "File for the result as one JSON object; - is standard output",
                        .otherwise = "none"});

  using V = VerifyLayoutConfig;
  const auto verify = table.group("Layouts to verify", kVerifyLayout, &verify_layout_of);
  verify.add(&V::layouts,
             {.flag = "layouts",
              .help = "Layouts, with commas between; a layout is words joined with +: tp2 sp pp2 "
                      "vp2 cp2 (cp2:a2a, cp2:allgather) dp2 zero1 fsdp2 fsdp3 overlap and more "
                      "(docs/numerics.md)",
              .otherwise = "those of up to 8 ranks that fit the model"});
  verify.add(&V::shrink, {.flag = "shrink",
                          .help = "Scale the model down first: fewer layers and heads, smaller "
                                  "widths, vocabulary and sequence; its options stay"});
  verify.add(&V::bound, {.flag = "bound",
                         .help = "Largest difference from one rank that passes",
                         .unit = "relative"});
  verify.add(&V::random, {.flag = "random",
                          .help = "Draw this many models and layouts (from --seed) instead of "
                                  "taking the model from the options",
                          .unit = "draws",
                          .otherwise = "none"});

  const auto inspect = table.group("Inspection", kInspect, &inspect_of);
  inspect.add(&InspectConfig::checkpoint,
              {.flag = "checkpoint",
               .help = "Folder of a checkpoint, or of several with the tracker of the latest, or a "
                       ".safetensors file",
               .positional = true,
               .required_by = kInspect});

  const auto list = table.group("List", commands(Command::options), &option_list_of);
  list.add(&OptionListConfig::markdown,
           {.flag = "markdown", .help = "As the page docs/options.md"});
  list.add(&OptionListConfig::megatron_lm_flags,
           {.flag = "megatron-lm-flags",
            .help = "Flags of Megatron-LM that are not here and what to do about each, as in "
                    "docs/from_megatron_lm.md"});
}

}  // namespace

void add_tool_options(OptionTable& table) {
  add_generation(table);
  add_datasets(table);
  add_checks(table);
  const auto file = table.group(
      "Configuration file",
      commands(Command::train, Command::generate, Command::bench, Command::parity, Command::plan,
               Command::verify_layout, Command::preprocess, Command::tokenize),
      &all_of, {.differs_between_runs = true, .between_ranks = RankAgreement::none});
  file.add(&Options::config_file, {.flag = "config",
                                   .help = "YAML file of options; flags override it",
                                   .field = "config_file",
                                   .otherwise = "none",
                                   .flag_aliases = {"yaml-cfg"}});
}

}  // namespace megatron
