// Options of generation, datasets, benchmarks, parity, verify-layout, inspection and the option
// list.
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

constexpr CommandSet kGenerate = commands(Command::generate);
constexpr CommandSet kBench = commands(Command::bench);
constexpr CommandSet kParity = commands(Command::parity);
constexpr CommandSet kPreprocess = commands(Command::preprocess);
constexpr CommandSet kConvert = commands(Command::convert);
constexpr CommandSet kInspect = commands(Command::inspect);
constexpr CommandSet kVerifyLayout = commands(Command::verify_layout);

Options& all_of(Options& options) {
  return options;
}
GenerationConfig& generation_of(Options& options) {
  return options.generation;
}
EvaluationConfig& evaluation_of(Options& options) {
  return options.evaluation;
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
VerifyLayoutConfig& verify_layout_of(Options& options) {
  return options.verify_layout;
}
ConvertConfig& convert_of(Options& options) {
  return options.convert;
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
  group.add(&G::prompt, {.flag = "prompt", .help = "Text to continue", .otherwise = "none"});
  group.add(&G::max_new_tokens, {.flag = "max-new-tokens",
                                 .help = "Maximum number of generated tokens",
                                 .unit = "tokens",
                                 .flag_aliases = {"num-tokens-to-generate"}});
  group.add(&G::temperature, {.flag = "temperature",
                              .help = "Sampling temperature; 0 is greedy decoding",
                              .unit = "factor"});
  group.shorthand(
      {.flag = "greedy", .help = "Same as --temperature 0", .sets = {{"temperature", "0"}}});
  group.add(&G::top_k, {.flag = "top-k",
                        .help = "Sample from the k most likely tokens; 0 for all",
                        .unit = "tokens"});
  group.add(&G::top_p,
            {.flag = "top-p",
             .help = "Sample from the most likely tokens with this total probability; 0 for all",
             .unit = "probability"});
  group.add(&G::num_samples,
            {.flag = "num-samples", .help = "Number of texts to generate", .unit = "samples"});
  group.add(
      &G::prompts_file,
      {.flag = "prompts-file",
       .help = "JSON lines of requests to serve at once instead of --prompt; other flags have "
               "the values of absent keys (docs/inference.md)",
       .otherwise = "none"});
  group.add(&G::output, {.flag = "output",
                         .help = "File for the results of --prompts-file, a JSON line each",
                         .otherwise = "standard output"});

  const auto engine = table.group("Inference engine", kEngineCommands, &generation_of);
  engine.add(&G::inference_dynamic_batching_block_size,
             {.flag = "inference-dynamic-batching-block-size",
              .help = "Size of a block of the paged key-value cache",
              .unit = "tokens"});
  engine.add(&G::inference_dynamic_batching_buffer_size_gb,
             {.flag = "inference-dynamic-batching-buffer-size-gb",
              .help = "Maximum size of the paged key-value cache on each rank",
              .unit = "GiB"});
  engine.add(&G::inference_dynamic_batching_max_requests,
             {.flag = "inference-dynamic-batching-max-requests",
              .help = "Maximum number of sequences that run at once",
              .unit = "sequences"});
  engine.add(&G::inference_dynamic_batching_max_tokens,
             {.flag = "inference-dynamic-batching-max-tokens",
              .help = "Maximum number of tokens of a step, over all sequences",
              .unit = "tokens"});
  engine.add(&G::inference_dynamic_batching_chunk_size,
             {.flag = "inference-dynamic-batching-chunk-size",
              .help = "Tokens of a prompt that one step computes; a multiple of the block size",
              .unit = "tokens"});
  engine.add(&G::inference_dynamic_batching_prefix_caching,
             {.flag = "inference-dynamic-batching-prefix-caching",
              .help = "Requests whose prompts begin with the same chunks share their blocks"});
  group.add(&G::num_speculative_tokens,
            {.flag = "num-speculative-tokens",
             .help = "Maximum number of tokens of a step that are proposed by n-gram lookup in the "
                     "text so far",
             .unit = "tokens",
             .otherwise = "no speculation"});
}

void add_evaluation(OptionTable& table) {
  using E = EvaluationConfig;
  const auto group = table.group("Evaluation", commands(Command::evaluate), &evaluation_of);
  group.add(
      &E::text_file,
      {.flag = "text-file", .help = "Text whose perplexity is measured", .otherwise = "none"});
  group.add(&E::text_window,
            {.flag = "text-window",
             .help = "Length of the parts of the text; a token sees those before it in its part",
             .unit = "tokens",
             .otherwise = "the model's positions, at most 2048"});
  group.add(&E::choices_file,
            {.flag = "choices-file",
             .help = "JSON lines with prompt, choices and answer, whose accuracy is measured",
             .otherwise = "none"});
}

void add_datasets(OptionTable& table) {
  using P = PreprocessConfig;
  const auto group = table.group("Dataset", kPreprocess, &preprocess_of);
  group.add(
      &P::input,
      {.flag = "input",
       .help = "Input files: JSON lines, recognized by name or content, with one document per "
               "line; others are one document each",
       .required_by = kPreprocess});
  group.add(&P::output_prefix,
            {.flag = "output-prefix",
             .help = "Prefix of the output files PREFIX_KEY_document.bin and .idx",
             .required_by = kPreprocess});
  group.add(&P::json_keys,
            {.flag = "json-keys", .help = "Keys of the JSON lines whose text is tokenized"});
  group.add(&P::workers, {.flag = "workers", .help = "Tokenizer threads", .unit = "threads"});
  group.add(&P::append_eod,
            {.flag = "append-eod", .help = "Append the end-of-document token to every document"});
  group.add(
      &P::document_start,
      {.flag = "document-start",
       .help =
           "Regular expression that matches the lines of a text file at which a document starts",
       .otherwise = "one document per file"});
  group.add(
      &P::statistics,
      {.flag = "statistics",
       .help = "Print how well unigram and bigram counts of 95% of the documents predict the rest; "
               "keeps all tokens in memory"});

  const auto decoding =
      table.group("Decoding", commands(Command::tokenize, Command::bench), &all_of);
  decoding.add(&Options::decode,
               {.flag = "decode",
                .help = "tokenize: convert token ids on standard input to text; bench: measure "
                        "generation instead of training"});
}

void add_checks(OptionTable& table) {
  const auto bench = table.group("Benchmark", kBench, &bench_of);
  bench.add(&BenchConfig::steps, {.flag = "steps", .help = "Measured steps", .unit = "steps"});
  bench.add(&BenchConfig::warmup_steps,
            {.flag = "warmup-steps", .help = "Steps before the measurement", .unit = "steps"});
  bench.add(&BenchConfig::prompt_tokens,
            {.flag = "prompt-tokens",
             .help = "With --decode: length of each prompt; a step is a run of prefill and decode",
             .unit = "tokens"});
  bench.add(&BenchConfig::new_tokens, {.flag = "new-tokens",
                                       .help = "With --decode: generated tokens of each sequence",
                                       .unit = "tokens"});
  bench.add(&BenchConfig::batch, {.flag = "batch",
                                  .help = "With --decode: sequences that are decoded together",
                                  .unit = "sequences"});
  bench.add(&BenchConfig::weights, {.flag = "weights",
                                    .help = "With --decode: type of the matrices",
                                    .otherwise = "the model's dtype",
                                    .choices = {"fp32", "bf16", "fp16", "int8", "int4"}});

  using P = ParityConfig;
  const auto parity = table.group("Parity", kParity, &parity_of);
  parity.add(&P::case_file,
             {.flag = "case-file",
              .help = "Case to compare with: a JSON file with a .safetensors file of the same name",
              .otherwise = "none",
              .positional = true});
  parity.add(&P::hf, {.flag = "hf",
                      .help = "Hugging Face folder to compare with instead, with the results of "
                              "transformers in expected.safetensors",
                      .otherwise = "none"});
  parity.add(&P::gguf,
             {.flag = "gguf",
              .help = "Folder with a model.gguf to compare with instead, with the results "
                      "of transformers in expected.safetensors",
              .otherwise = "none"});
  parity.add(&P::tolerance,
             {.flag = "tolerance", .help = "Factor on every bound", .unit = "factor"});
  const auto output = table.group(
      "Output", commands(Command::parity, Command::inspect, Command::verify_layout), &parity_of);
  output.add(&P::json, {.flag = "json",
                        .help = "File for the result as a JSON object; - for standard output",
                        .otherwise = "none"});

  using V = VerifyLayoutConfig;
  const auto verify = table.group("Layouts to verify", kVerifyLayout, &verify_layout_of);
  verify.add(
      &V::layouts,
      {.flag = "layouts",
       .help = "Comma-separated layouts, each of words joined by +, as in tp2+sp: tp2 sp pp2 "
               "vp2 cp2 (cp2:a2a, cp2:allgather) dp2 zero1 fsdp2 fsdp3 overlap and more "
               "(docs/numerics.md)",
       .otherwise = "those of up to 8 ranks that fit the model"});
  verify.add(&V::shrink, {.flag = "shrink",
                          .help = "Scale the model down first: fewer layers and heads, smaller "
                                  "sizes, vocabulary and sequence length; keeps its options"});
  verify.add(&V::bound,
             {.flag = "bound", .help = "Maximum difference from one rank", .unit = "relative"});
  verify.add(&V::random, {.flag = "random",
                          .help = "Number of random models and layouts to test instead of the "
                                  "given model; drawn from --seed",
                          .unit = "draws",
                          .otherwise = "none"});

  using C = ConvertConfig;
  const auto convert = table.group("Conversion", kConvert, &convert_of);
  convert.add(&C::from_hf, {.flag = "from-hf",
                            .help = "Hugging Face folder to convert; --save names the checkpoint",
                            .otherwise = "none"});
  convert.add(&C::to_hf,
              {.flag = "to-hf",
               .help = "Hugging Face folder to write; --load names the checkpoint to convert",
               .otherwise = "none"});
  convert.add(&C::from_gguf,
              {.flag = "from-gguf",
               .help = "GGUF file to convert; --save names the checkpoint, and --params-dtype the "
                       "type of its weights",
               .otherwise = "none"});
  convert.add(&C::to_gguf, {.flag = "to-gguf",
                            .help = "GGUF file to write; --load names the checkpoint to convert",
                            .otherwise = "none"});
  convert.add(&C::gguf_type, {.flag = "gguf-type",
                              .help = "Type of the matrices of --to-gguf: f32, f16, bf16 or q8_0; "
                                      "vectors are always f32",
                              .otherwise = "that of the weights"});
  convert.add(
      &C::verify,
      {.flag = "verify",
       .help = "Convert back and compare all tensors bit for bit, and the logits of a fixed "
               "prompt"});

  const auto inspect = table.group("Inspection", kInspect, &inspect_of);
  inspect.add(
      &InspectConfig::checkpoint,
      {.flag = "checkpoint",
       .help = "Checkpoint directory, directory of several checkpoints (the tracker names the "
               "latest), or .safetensors file",
       .positional = true,
       .required_by = kInspect});

  const auto list = table.group("List", commands(Command::options), &option_list_of);
  list.add(&OptionListConfig::markdown,
           {.flag = "markdown", .help = "Print the page docs/options.md"});
  list.add(
      &OptionListConfig::megatron_lm_flags,
      {.flag = "megatron-lm-flags",
       .help =
           "Print the flags of Megatron-LM that are not options here, and their replacements, as "
           "in docs/from_megatron_lm.md"});
}

}  // namespace

void add_tool_options(OptionTable& table) {
  add_generation(table);
  add_evaluation(table);
  add_datasets(table);
  add_checks(table);
  const auto file =
      table.group("Configuration file",
                  kRunCommands | commands(Command::plan, Command::verify_layout,
                                          Command::preprocess, Command::tokenize),
                  &all_of, {.differs_between_runs = true, .between_ranks = RankAgreement::none});
  file.add(&Options::config_file, {.flag = "config",
                                   .help = "YAML file with options; flags override it",
                                   .field = "config_file",
                                   .otherwise = "none",
                                   .flag_aliases = {"yaml-cfg"}});
  const auto recipe =
      table.group("Configuration file",
                  commands(Command::train, Command::bench, Command::plan, Command::verify_layout),
                  &all_of, {.differs_between_runs = true, .between_ranks = RankAgreement::none});
  recipe.add(&Options::recipe,
             {.flag = "recipe",
              .help = "Options of a known model that ship with the program, such as llama3-8b; "
                      "--config and flags override them. list shows all",
              .otherwise = "none"});
}

}  // namespace megatron
