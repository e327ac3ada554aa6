// Checks of optimizer, tokenizer, checkpoints and the training run.
#include "megatron/base/problems.h"
#include "megatron/config/model/enum_names.h"
#include "megatron/config/validate/validate.h"

namespace megatron {
namespace {

void expect_fraction(const char* flag, double value, Problems& problems) {
  problems.expect(value >= 0 && value < 1,
                  "Expected {} of at least 0 and below 1, but got {}; 0.9 works", flag, value);
}

void check_checkpoints(const CheckpointConfig& config, Problems& problems) {
  problems.at_least("--save-interval", config.save_interval, 0);
  const auto needs = [&](bool holds, const char* flag, const char* needed) {
    problems.expect(holds, "Expected {} with {}, but got none; give both or neither", needed, flag);
  };
  needs(config.save_interval <= 0 || !config.save.empty(), "--save-interval", "--save");
  needs(!config.no_save_optim || !config.save.empty(), "--no-save-optim", "--save");
  needs(!config.finetune || !config.load.empty(), "--finetune", "--load");
  needs(!config.no_load_optim || !config.load.empty(), "--no-load-optim", "--load");
  needs(!config.exit_on_missing_checkpoint || !config.load.empty(), "--exit-on-missing-checkpoint",
        "--load");
}

}  // namespace

void check_optimizer(const OptimizerConfig& config, Problems& problems) {
  problems.expect(config.lr >= 0, "Expected --lr of at least 0, but got {}; 3e-4 works", config.lr);
  problems.expect(config.weight_decay >= 0,
                  "Expected --weight-decay of at least 0, but got {}; 0 disables it",
                  config.weight_decay);
  problems.expect(config.clip_grad >= 0,
                  "Expected --clip-grad of at least 0, but got {}; 0 disables it",
                  config.clip_grad);
  problems.expect(config.adam_eps > 0, "Expected --adam-eps above 0, but got {}; 1e-8 works",
                  config.adam_eps);
  expect_fraction("--adam-beta1", config.adam_beta1, problems);
  expect_fraction("--adam-beta2", config.adam_beta2, problems);
  expect_fraction("--sgd-momentum", config.sgd_momentum, problems);
  const OptimizerConfig defaults;
  const bool adam = config.optimizer == OptimizerType::adam;
  const auto belongs = [&](bool to_adam, bool is_default, const char* flag) {
    problems.expect(to_adam == adam || is_default,
                    "Expected --optimizer {} with {}, but got {}; leave {} out",
                    to_adam ? "adam" : "sgd", flag, adam ? "adam" : "sgd", flag);
  };
  belongs(true, config.adam_beta1 == defaults.adam_beta1, "--adam-beta1");
  belongs(true, config.adam_beta2 == defaults.adam_beta2, "--adam-beta2");
  belongs(true, config.adam_eps == defaults.adam_eps, "--adam-eps");
  belongs(false, config.sgd_momentum == defaults.sgd_momentum, "--sgd-momentum");
}

void check_tokenizer(const TokenizerConfig& config, Problems& problems) {
  const bool vocab = !config.vocab_file.empty();
  const bool merge = !config.merge_file.empty();
  const bool model = !config.tokenizer_model.empty();
  problems.expect(vocab == merge,
                  "Expected both --vocab-file and --merge-file, but got one of them; give both, or "
                  "--tokenizer-model");
  problems.expect(!(model && (vocab || merge)),
                  "Expected --tokenizer-model, or --vocab-file with --merge-file, but got both; "
                  "leave one out");
  const bool anything = config.tokenizer_type || vocab || merge || model;
  const bool tiktoken = anything && tokenizer_type_of(config) == TokenizerType::TikTokenizer;
  const TokenizerConfig defaults;
  problems.expect(
      tiktoken || (config.tiktoken_pattern == defaults.tiktoken_pattern &&
                   config.tiktoken_num_special_tokens == defaults.tiktoken_num_special_tokens &&
                   config.tokenizer_special_tokens.empty()),
      "Expected --tokenizer-type TikTokenizer with --tiktoken-pattern, "
      "--tiktoken-num-special-tokens and --tokenizer-special-tokens, but got another "
      "tokenizer; leave them out");
  const bool hugging_face =
      model && tokenizer_type_of(config) == TokenizerType::HuggingFaceTokenizer;
  problems.expect(!config.tokenizer_hf_include_special_tokens || hugging_face,
                  "Expected a HuggingFaceTokenizer with --tokenizer-hf-include-special-tokens, but "
                  "got another tokenizer; leave it out");
  if (!config.tokenizer_type) return;
  const std::string name(enum_name(*config.tokenizer_type));
  switch (*config.tokenizer_type) {
    case TokenizerType::GPT2BPETokenizer:
      problems.expect(vocab && merge,
                      "Expected --vocab-file and --merge-file with --tokenizer-type {}, but got "
                      "none; HuggingFaceTokenizer reads --tokenizer-model",
                      name);
      break;
    case TokenizerType::HuggingFaceTokenizer:
      problems.expect(model,
                      "Expected --tokenizer-model with --tokenizer-type {}, but got none; "
                      "GPT2BPETokenizer reads --vocab-file and --merge-file",
                      name);
      break;
    case TokenizerType::SentencePieceTokenizer:
    case TokenizerType::GPTSentencePieceTokenizer:
    case TokenizerType::Llama2Tokenizer:
    case TokenizerType::TikTokenizer:
      problems.expect(model, "Expected --tokenizer-model with --tokenizer-type {}, but got none",
                      name);
      break;
    case TokenizerType::ByteTokenizer:
    case TokenizerType::NullTokenizer:
      problems.expect(!vocab && !merge && !model,
                      "Expected no tokenizer files with --tokenizer-type {}, but got some; leave "
                      "them out",
                      name);
      break;
  }
}

void check_can_start(const Options& options, Problems& problems) {
  if (!options.training.train_samples)
    problems.is_required_size("--train-iters", options.training.train_iters);
  const DataConfig& data = options.data;
  problems.expect(data.mock_data || !data.data_path.empty() || !data.data_args_path.empty() ||
                      !data.train_data_path.empty() || !data.per_split_data_args_path.empty(),
                  "Expected --data-path or --train-data-path, but got none; --mock-data needs no "
                  "files");
}

void check_training(const Options& options, Problems& problems) {
  const TrainingConfig& training = options.training;
  problems.at_least("--eval-interval", training.eval_interval, 0);
  problems.at_least("--eval-iters", training.eval_iters, 0);
  problems.expect(training.eval_interval != 0 || training.eval_iters == TrainingConfig().eval_iters,
                  "Expected --eval-interval above 0 with --eval-iters, but got 0, which disables "
                  "evaluation; leave --eval-iters out");
  problems.at_least("--exit-interval", training.exit_interval, 0);
  problems.at_least("--log-interval", options.logging.log_interval, 1);
  if (training.exit_duration_in_mins) {
    problems.expect(
        *training.exit_duration_in_mins > 0,
        "Expected --exit-duration-in-mins above 0, but got {}; leave it out for no limit",
        *training.exit_duration_in_mins);
  }
  const int64_t level = training.empty_unused_memory_level;
  problems.expect(level >= 0 && level <= 2,
                  "Expected --empty-unused-memory-level 0, 1 or 2, but got {}; 0 keeps memory for "
                  "reuse",
                  level);
  check_schedule(options.optimizer, training, problems);
  check_tokenizer(options.tokenizer, problems);
  check_data(options, problems);
  check_checkpoints(options.checkpoint, problems);
}

}  // namespace megatron
