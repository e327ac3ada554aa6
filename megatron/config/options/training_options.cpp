// Options of a training run: batches, loss, data, tokenizer, evaluation, checkpoints, logging.
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

constexpr CommandSet kTrain = commands(Command::train);
constexpr CommandSet kTrainAndBench = commands(Command::train, Command::bench);
constexpr CommandSet kTokenizerCommands =
    kEngineCommands | commands(Command::train, Command::preprocess, Command::tokenize);

BatchConfig& batch_of(Options& options) {
  return options.batch;
}
GPTModelConfig& sequence_of(Options& options) {
  return options.model;
}
TransformerConfig& loss_of(Options& options) {
  return options.model.transformer;
}
DataConfig& data_of(Options& options) {
  return options.data;
}
TokenizerConfig& tokenizer_of(Options& options) {
  return options.tokenizer;
}
TrainingConfig& training_of(Options& options) {
  return options.training;
}
CheckpointConfig& checkpoint_of(Options& options) {
  return options.checkpoint;
}
LoggingConfig& logging_of(Options& options) {
  return options.logging;
}

void add_batches(OptionTable& table) {
  const auto batch = table.group("Batches", kModelCommands, &batch_of);
  batch.add(&BatchConfig::micro_batch_size,
            {.flag = "micro-batch-size",
             .help = "Micro-batch size: sequences per forward pass of a data parallel rank (b)",
             .unit = "sequences"});
  batch.add(&BatchConfig::global_batch_size,
            {.flag = "global-batch-size",
             .help = "Global batch size: sequences per step over all ranks",
             .unit = "sequences",
             .otherwise = "micro-batch size x data parallel size"});
  const auto ramp = table.group("Batches", kTrain, &batch_of);
  ramp.add(
      &BatchConfig::rampup_batch_size,
      {.flag = "rampup-batch-size",
       .help = "Ramp of the global batch size: its first value, the increment, and the samples "
               "over which it grows to --global-batch-size in steps of equal length. "
               "Iterations of the learning rate then stand for --global-batch-size samples",
       .otherwise = "constant"});
  ramp.add(&BatchConfig::decrease_batch_size_if_needed,
           {.flag = "decrease-batch-size-if-needed",
            .help = "Round global batch sizes down to a multiple of micro-batch size x data "
                    "parallel size"});
  const auto sequence = table.group("Batches", kModelCommands, &sequence_of);
  sequence.add(&GPTModelConfig::seq_length,
               {.flag = "seq-length", .help = "Sequence length (s)", .unit = "tokens"});
}

void add_loss(OptionTable& table) {
  using T = TransformerConfig;
  const auto loss = table.group("Loss", kTrainAndBench, &loss_of);
  loss.add(
      &T::calculate_per_token_loss,
      {.flag = "calculate-per-token-loss",
       .help =
           "Average the loss over all tokens of the step instead of averaging micro-batch means"});
  loss.add(&T::label_smoothing,
           {.flag = "label-smoothing", .help = "Label smoothing", .unit = "fraction"});
  loss.add(&T::cross_entropy_loss_fusion,
           {.flag = "cross-entropy-loss-fusion",
            .help = "Fused cross-entropy loss; the next option selects the implementation"});
  loss.add(
      &T::cross_entropy_fusion_impl,
      {.flag = "cross-entropy-fusion-impl",
       .help =
           "native saves one reduction; linear computes output layer and loss in chunks and never "
           "holds the logits; te does not work"});
  const auto half = table.group("Loss", kTrainAndBench, &sequence_of);
  half.add(&GPTModelConfig::fp16_lm_cross_entropy,
           {.flag = "fp16-lm-cross-entropy",
            .help = "Round the logits to half precision before the loss"});
}

void add_data(OptionTable& table) {
  using D = DataConfig;
  const auto group = table.group("Data", kTrain, &data_of);
  group.add(
      &D::data_path,
      {.flag = "data-path",
       .help =
           "Path prefix of the .bin and .idx files, or the --output-prefix of preprocess. For a "
           "blend several of them, each read once, or WEIGHT PREFIX WEIGHT PREFIX"});
  group.add(&D::data_args_path, {.flag = "data-args-path",
                                 .help = "File with the words of --data-path",
                                 .otherwise = "none"});
  group.add(&D::train_data_path,
            {.flag = "train-data-path",
             .help = "Training data as in --data-path; used whole, instead of --data-path and "
                     "--split"});
  group.add(&D::valid_data_path,
            {.flag = "valid-data-path", .help = "With --train-data-path: validation data"});
  group.add(&D::test_data_path,
            {.flag = "test-data-path", .help = "With --train-data-path: test data"});
  group.add(&D::per_split_data_args_path,
            {.flag = "per-split-data-args-path",
             .help = "JSON file with those three: {\"train\": [...], \"valid\": [...], \"test\": "
                     "[...]}, each a list of words, one text, or null",
             .otherwise = "none"});
  group.add(&D::split,
            {.flag = "split",
             .help = "Relative sizes of the training, validation and test sets, in documents"});
  group.add(&D::data_cache_path, {.flag = "data-cache-path",
                                  .help = "Directory of the sample index cache",
                                  .otherwise = "cache/GPTDataset_indices next to the data",
                                  .differs_between_runs = true,
                                  .between_ranks = RankAgreement::none});
  group.add(&D::mmap_bin_files, {.flag = "no-mmap-bin-files",
                                 .help = "Read .bin files instead of mapping them into memory",
                                 .field = "mmap_bin_files",
                                 .inverted = true,
                                 .differs_between_runs = true});
  group.add(&D::mock_data, {.flag = "mock-data",
                            .help = "Synthetic tokens, generated from the seed; needs no files"});
  group.add(&D::eod_mask_loss, {.flag = "eod-mask-loss",
                                .help = "Mask the loss at end-of-document tokens of the input"});

  using T = TokenizerConfig;
  const auto tokenizer = table.group("Tokenizer", kTokenizerCommands, &tokenizer_of);
  tokenizer.add(&T::tokenizer_type, {.flag = "tokenizer-type",
                                     .help = "Type of tokenizer",
                                     .otherwise = "inferred from the files"});
  tokenizer.add(&T::vocab_file,
                {.flag = "vocab-file",
                 .help = "vocab.json of a byte-level BPE tokenizer, with --merge-file",
                 .otherwise = "none"});
  tokenizer.add(&T::merge_file,
                {.flag = "merge-file",
                 .help = "merges.txt of a byte-level BPE tokenizer, with --vocab-file",
                 .otherwise = "none"});
  tokenizer.add(&T::tokenizer_model,
                {.flag = "tokenizer-model",
                 .help = "tokenizer.json of Hugging Face, or the folder that holds it; "
                         "tokenizer.model of SentencePiece; .tiktoken vocabulary",
                 .otherwise = "none"});
  tokenizer.add(&T::tokenizer_hf_include_special_tokens,
                {.flag = "tokenizer-hf-include-special-tokens",
                 .help = "Add to each text the begin and end tokens that the post_processor of a "
                         "tokenizer.json names. Without it none are added; preprocess adds the "
                         "end-of-document token with --append-eod"});
  tokenizer.add(&T::tiktoken_pattern,
                {.flag = "tiktoken-pattern",
                 .help = "Expression that splits text into words for TikTokenizer",
                 .choices = {"v1", "v2"}});
  tokenizer.add(
      &T::tiktoken_num_special_tokens,
      {.flag = "tiktoken-num-special-tokens",
       .help = "Number of special tokens of TikTokenizer; the ids of the file follow them",
       .unit = "tokens"});
  tokenizer.add(&T::tokenizer_special_tokens,
                {.flag = "tokenizer-special-tokens",
                 .help = "Special tokens of TikTokenizer, from id 0 on",
                 .otherwise = "<unk> <s> </s> <mask> <pad> <cls> <sep>",
                 .flag_aliases = {"tiktoken-special-tokens"},
                 .field_aliases = {"special_tokens"}});
}

void add_training(OptionTable& table) {
  using T = TrainingConfig;
  const auto group = table.group("Training", kTrain, &training_of);
  group.add(&T::train_iters, {.flag = "train-iters",
                              .help = "Total number of training iterations",
                              .unit = "iterations",
                              .otherwise = "required, or --train-samples"});
  group.add(&T::train_samples,
            {.flag = "train-samples",
             .help = "Total number of training samples, instead of --train-iters; an incomplete "
                     "last batch is dropped",
             .unit = "samples",
             .otherwise = "--train-iters"});
  group.add(&T::eval_interval, {.flag = "eval-interval",
                                .help = "Iterations between evaluations; 0 disables evaluation",
                                .unit = "iterations"});
  group.add(&T::eval_iters,
            {.flag = "eval-iters", .help = "Iterations per evaluation", .unit = "iterations"});
  group.add(&T::exit_interval,
            {.flag = "exit-interval",
             .help = "Save and exit after an iteration divisible by this; 0 disables it",
             .unit = "iterations"});
  group.add(&T::exit_duration_in_mins, {.flag = "exit-duration-in-mins",
                                        .help = "Save and exit after this time",
                                        .unit = "minutes",
                                        .otherwise = "no limit"});
  group.add(&T::check_for_nan_in_loss, {.flag = "no-check-for-nan-in-loss-and-grad",
                                        .help = "Continue if the loss is NaN or infinite",
                                        .field = "check_for_nan_in_loss",
                                        .inverted = true});
  group.add(&T::empty_unused_memory_level,
            {.flag = "empty-unused-memory-level",
             .help = "Return unused memory to the system after each forward and backward pass (1), "
                     "and after each optimizer step too (2)",
             .unit = "level",
             .differs_between_runs = true});
  const auto seed = table.group(
      "Training", commands(Command::train, Command::generate, Command::bench), &training_of);
  seed.add(&T::seed, {.flag = "seed",
                      .help = "Seed of initial weights, dropout, data order and sampling",
                      .unit = "number"});
}

void add_checkpoints(OptionTable& table) {
  using C = CheckpointConfig;
  const auto group = table.group("Checkpoints", kTrain, &checkpoint_of);
  group.add(&C::save, {.flag = "save",
                       .help = "Directory to save checkpoints in",
                       .otherwise = "do not save",
                       .differs_between_runs = true,
                       .between_ranks = RankAgreement::given,
                       .taken_by = commands(Command::train, Command::convert)});
  group.add(&C::save_hf, {.flag = "save-hf",
                          .help = "Directory for a Hugging Face folder of each saved iteration, "
                                  "named iter_0000123 as the checkpoint",
                          .otherwise = "none",
                          .differs_between_runs = true,
                          .between_ranks = RankAgreement::given});
  group.add(&C::save_interval, {.flag = "save-interval",
                                .help = "Iterations between checkpoints",
                                .unit = "iterations",
                                .otherwise = "at the end only",
                                .differs_between_runs = true});
  group.add(&C::load,
            {.flag = "load",
             .help = "Directory to load a checkpoint from, saved with any parallel layout; train, "
                     "generate and evaluate also take a Hugging Face folder or a GGUF file, and "
                     "verify-layout the architecture of one",
             .otherwise = "none",
             .differs_between_runs = true,
             .between_ranks = RankAgreement::given,
             .taken_by = kEngineCommands | commands(Command::train, Command::convert),
             .required_by = kEngineCommands});
  group.add(
      &C::exit_on_missing_checkpoint,
      {.flag = "exit-on-missing-checkpoint",
       .help = "Refuse to start where --load holds no checkpoint, even if it is the folder of "
               "--save",
       .differs_between_runs = true});
  group.add(
      &C::finetune,
      {.flag = "finetune",
       .help = "Load the weights only: start at iteration 0 with a new optimizer and data order. "
               "Rotary and window options may differ from the checkpoint"});
  group.add(&C::no_load_optim,
            {.flag = "no-load-optim", .help = "Do not load the optimizer state"});
  group.add(&C::no_save_optim, {.flag = "no-save-optim",
                                .help = "Do not save the optimizer state",
                                .differs_between_runs = true});
}

void add_logging(OptionTable& table) {
  using L = LoggingConfig;
  const auto group =
      table.group("Logging", kTrain, &logging_of,
                  {.differs_between_runs = true, .between_ranks = RankAgreement::none});
  const auto build =
      table.group("Logging", commands(Command::train, Command::bench, Command::parity), &logging_of,
                  {.differs_between_runs = true, .between_ranks = RankAgreement::none});
  build.add(&L::verbose,
            {.flag = "verbose",
             .help = "Print how the model is built: layer specs, chunks and parameters of each "
                     "stage"});
  group.add(&L::log_interval,
            {.flag = "log-interval", .help = "Iterations between log lines", .unit = "iterations"});
  group.add(&L::tensorboard_dir, {.flag = "tensorboard-dir",
                                  .help = "Directory for TensorBoard event files",
                                  .otherwise = "none"});
  group.add(
      &L::log_json,
      {.flag = "log-json",
       .help =
           "File for one JSON object per iteration, in full precision; NAME.events.jsonl next to "
           "it holds starts, evaluations and notes",
       .otherwise = "none"});
  group.add(&L::report, {.flag = "report",
                         .help = "File for an HTML report with loss curve, layout and speed",
                         .otherwise = "none"});
}

}  // namespace

void add_training_options(OptionTable& table) {
  add_batches(table);
  add_loss(table);
  add_data(table);
  add_training(table);
  add_checkpoints(table);
  add_logging(table);
}

}  // namespace megatron
