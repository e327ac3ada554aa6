// The table's part about a training run: batches, data, tokenizer, evaluation, checkpoints, log.
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
             .help = "Sequences that a data parallel rank computes at once (b)",
             .unit = "sequences"});
  batch.add(&BatchConfig::global_batch_size, {.flag = "global-batch-size",
                                              .help = "Sequences of a step, over all ranks",
                                              .unit = "sequences",
                                              .otherwise = "micro batch x data parallel size"});
  const auto sequence = table.group("Batches", kModelCommands, &sequence_of);
  sequence.add(&GPTModelConfig::seq_length,
               {.flag = "seq-length", .help = "Length of a sequence (s)", .unit = "tokens"});
}

void add_loss(OptionTable& table) {
  using T = TransformerConfig;
  const auto loss = table.group("Loss", kTrainAndBench, &loss_of);
  loss.add(&T::calculate_per_token_loss,
           {.flag = "calculate-per-token-loss",
            .help = "One mean over all tokens of a step, not a mean of micro-batches' means"});
  loss.add(&T::label_smoothing, {.flag = "label-smoothing",
                                 .help = "Share of each label that is spread over the vocabulary",
                                 .unit = "fraction"});
  loss.add(&T::cross_entropy_loss_fusion, {.flag = "cross-entropy-loss-fusion",
                                           .help = "Fuse the loss; the next option says how"});
  loss.add(&T::cross_entropy_fusion_impl,
           {.flag = "cross-entropy-fusion-impl",
            .help = "native: one reduction less; linear: with the output layer, in chunks, so that "
                    "the logits are never held; te is not there"});
  const auto half = table.group("Loss", kTrainAndBench, &sequence_of);
  half.add(
      &GPTModelConfig::fp16_lm_cross_entropy,
      {.flag = "fp16-lm-cross-entropy", .help = "The loss from logits rounded to half precision"});
}

void add_data(OptionTable& table) {
  using D = DataConfig;
  const auto group = table.group("Data", kTrain, &data_of);
  group.add(&D::data_path, {.flag = "data-path",
                            .help = "Dataset: the path of its .bin and .idx without the ending, or "
                                    "what preprocess was given as --output-prefix"});
  group.add(&D::split,
            {.flag = "split", .help = "Shares of training, validation and test documents"});
  group.add(&D::data_cache_path, {.flag = "data-cache-path",
                                  .help = "Folder for the indices of samples",
                                  .otherwise = "beside the data",
                                  .differs_between_runs = true,
                                  .between_ranks = RankAgreement::none});
  group.add(&D::mock_data,
            {.flag = "mock-data", .help = "Tokens made up from the seed; needs no files"});
  group.add(&D::eod_mask_loss,
            {.flag = "eod-mask-loss", .help = "No loss where the input is an end of document"});

  using T = TokenizerConfig;
  const auto tokenizer = table.group("Tokenizer", kTokenizerCommands, &tokenizer_of);
  tokenizer.add(&T::tokenizer_type, {.flag = "tokenizer-type",
                                     .help = "Kind of tokenizer",
                                     .otherwise = "follows from the files"});
  tokenizer.add(&T::vocab_file, {.flag = "vocab-file",
                                 .help = "vocab.json of a byte-level BPE, with --merge-file",
                                 .otherwise = "none"});
  tokenizer.add(&T::merge_file, {.flag = "merge-file",
                                 .help = "merges.txt of a byte-level BPE, with --vocab-file",
                                 .otherwise = "none"});
  tokenizer.add(&T::tokenizer_model, {.flag = "tokenizer-model",
                                      .help = "tokenizer.json of a byte-level BPE",
                                      .otherwise = "none"});
}

void add_training(OptionTable& table) {
  using T = TrainingConfig;
  const auto group = table.group("Training", kTrain, &training_of);
  group.add(&T::train_iters, {.flag = "train-iters",
                              .help = "Steps of the whole run",
                              .unit = "iterations",
                              .otherwise = "required"});
  group.add(&T::eval_interval, {.flag = "eval-interval",
                                .help = "Evaluate every so many steps; 0 for never",
                                .unit = "iterations"});
  group.add(&T::eval_iters,
            {.flag = "eval-iters", .help = "Steps of one evaluation", .unit = "iterations"});
  group.add(&T::exit_interval,
            {.flag = "exit-interval",
             .help = "Save and exit after a step whose number this divides; 0 never",
             .unit = "iterations"});
  group.add(&T::exit_duration_in_mins, {.flag = "exit-duration-in-mins",
                                        .help = "Save and exit after this time",
                                        .unit = "minutes",
                                        .otherwise = "no limit"});
  group.add(&T::check_for_nan_in_loss, {.flag = "no-check-for-nan-in-loss-and-grad",
                                        .help = "Go on after a loss that is not a number",
                                        .field = "check_for_nan_in_loss",
                                        .inverted = true});
  const auto seed = table.group(
      "Training", commands(Command::train, Command::generate, Command::bench), &training_of);
  seed.add(
      &T::seed,
      {.flag = "seed", .help = "Of weights, dropout, data order and sampling", .unit = "number"});
}

void add_checkpoints(OptionTable& table) {
  using C = CheckpointConfig;
  const auto group = table.group("Checkpoints", kTrain, &checkpoint_of);
  group.add(&C::save, {.flag = "save",
                       .help = "Folder for checkpoints",
                       .otherwise = "saves none",
                       .differs_between_runs = true,
                       .between_ranks = RankAgreement::given});
  group.add(&C::save_interval, {.flag = "save-interval",
                                .help = "Save every so many steps",
                                .unit = "iterations",
                                .otherwise = "at the end only",
                                .differs_between_runs = true});
  group.add(&C::load, {.flag = "load",
                       .help = "Folder of checkpoints to go on from, written in any layout",
                       .otherwise = "none",
                       .differs_between_runs = true,
                       .between_ranks = RankAgreement::given,
                       .taken_by = commands(Command::train, Command::generate),
                       .required_by = commands(Command::generate)});
  group.add(&C::finetune,
            {.flag = "finetune",
             .help = "Take the weights only: step 0, fresh optimizer and data order"});
  group.add(&C::no_load_optim,
            {.flag = "no-load-optim", .help = "Do not load the optimizer's state"});
  group.add(&C::no_save_optim, {.flag = "no-save-optim",
                                .help = "Do not save the optimizer's state",
                                .differs_between_runs = true});
}

void add_logging(OptionTable& table) {
  using L = LoggingConfig;
  const auto group =
      table.group("Logging", kTrain, &logging_of,
                  {.differs_between_runs = true, .between_ranks = RankAgreement::none});
  group.add(
      &L::log_interval,
      {.flag = "log-interval", .help = "Print a line every so many steps", .unit = "iterations"});
  group.add(
      &L::tensorboard_dir,
      {.flag = "tensorboard-dir", .help = "Folder for TensorBoard scalars", .otherwise = "none"});
  group.add(&L::log_json, {.flag = "log-json",
                           .help = "File for one JSON object a step, in full precision; starts, "
                                   "evaluations and notes go to NAME.events.jsonl beside it",
                           .otherwise = "none"});
  group.add(&L::report, {.flag = "report",
                         .help = "File for an HTML page with the loss curve, layout and speed",
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
