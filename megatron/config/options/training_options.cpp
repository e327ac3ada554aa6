// Options of a training run: batches, loss, data, tokenizer, evaluation, checkpoints, logging.
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

constexpr CommandSet kTrain = commands(Command::train);
constexpr CommandSet kTrainAndBench = commands(Command::train, Command::bench);
constexpr CommandSet kTokenizerCommands =
    commands(Command::train, Command::generate, Command::preprocess, Command::tokenize);

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
       .help = "Path prefix of the .bin and .idx files, or the --output-prefix of preprocess"});
  group.add(&D::split,
            {.flag = "split",
             .help = "Relative sizes of the training, validation and test sets, in documents"});
  group.add(&D::data_cache_path, {.flag = "data-cache-path",
                                  .help = "Directory of the sample index cache",
                                  .otherwise = "cache/GPTDataset_indices next to the data",
                                  .differs_between_runs = true,
                                  .between_ranks = RankAgreement::none});
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
  tokenizer.add(&T::tokenizer_model, {.flag = "tokenizer-model",
                                      .help = "tokenizer.json of a byte-level BPE tokenizer",
                                      .otherwise = "none"});
}

void add_training(OptionTable& table) {
  using T = TrainingConfig;
  const auto group = table.group("Training", kTrain, &training_of);
  group.add(&T::train_iters, {.flag = "train-iters",
                              .help = "Total number of training iterations",
                              .unit = "iterations",
                              .otherwise = "required"});
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
                       .between_ranks = RankAgreement::given});
  group.add(&C::save_interval, {.flag = "save-interval",
                                .help = "Iterations between checkpoints",
                                .unit = "iterations",
                                .otherwise = "at the end only",
                                .differs_between_runs = true});
  group.add(&C::load,
            {.flag = "load",
             .help = "Directory to load a checkpoint from, saved with any parallel layout",
             .otherwise = "none",
             .differs_between_runs = true,
             .between_ranks = RankAgreement::given,
             .taken_by = commands(Command::train, Command::generate),
             .required_by = commands(Command::generate)});
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
