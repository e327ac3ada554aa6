// Checks of optimizer, learning-rate schedule, data, tokenizer, checkpoints and the training run.
#include "megatron/base/problems.h"
#include "megatron/config/model/enum_names.h"
#include "megatron/config/model/split_weights.h"
#include "megatron/config/validate/validate.h"

namespace megatron {
namespace {

void expect_fraction(const char* flag, double value, Problems& problems) {
  problems.expect(value >= 0 && value < 1,
                  "Expected {} of at least 0 and below 1, but got {}; 0.9 works", flag, value);
}

void check_data(const Options& options, Problems& problems) {
  const DataConfig& data = options.data;
  const TokenizerConfig& tokenizer = options.tokenizer;
  problems.expect(!data.mock_data || data.data_path.empty(),
                  "Expected --data-path or --mock-data, but got both; leave one out");
  problems.expect(
      !data.mock_data || data.data_cache_path.empty(),
      "Expected --data-path with --data-cache-path, but got --mock-data, which needs no cache; "
      "leave --data-cache-path out");
  problems.expect(
      data.data_path.size() <= 1,
      "Expected one --data-path, but got {}; blended datasets are not supported in this version",
      data.data_path.size());
  problems.expect(parse_split_weights(data.split).has_value(),
                  "Expected --split with up to three weights, but got '{}'; 969,30,1 works",
                  data.split);
  const bool has_tokenizer = !tokenizer.vocab_file.empty() || !tokenizer.tokenizer_model.empty() ||
                             tokenizer.tokenizer_type == TokenizerType::ByteTokenizer;
  problems.expect(has_tokenizer || options.model.vocab_size > 0,
                  "Expected --vocab-size of at least 1, or a tokenizer, but got neither; give "
                  "--vocab-size, --tokenizer-model, or --vocab-file with --merge-file");
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

void check_schedule(const OptimizerConfig& config, int64_t train_iters, Problems& problems) {
  const double most = std::max(config.lr, 0.0);  // check_optimizer reports a negative one
  problems.expect(config.min_lr >= 0 && config.min_lr <= most,
                  "Expected --min-lr between 0 and --lr ({}), but got {}; {} works", config.lr,
                  config.min_lr, 0);
  problems.expect(config.lr_warmup_init >= 0 && config.lr_warmup_init <= most,
                  "Expected --lr-warmup-init between 0 and --lr ({}), but got {}; {} works",
                  config.lr, config.lr_warmup_init, 0);
  problems.at_least("--lr-warmup-iters", config.lr_warmup_iters, 0);
  problems.expect(
      !config.lr_warmup_fraction || config.lr_warmup_iters == 0,
      "Expected --lr-warmup-iters or --lr-warmup-fraction, but got both; leave one out");
  const int64_t decay = config.lr_decay_iters.value_or(train_iters);
  if (config.lr_decay_iters) {
    problems.at_least("--lr-decay-iters", *config.lr_decay_iters, 1);
  }
  if (config.lr_warmup_fraction) {
    expect_fraction("--lr-warmup-fraction", *config.lr_warmup_fraction, problems);
  }
  if (decay > 0) {
    problems.expect(config.lr_warmup_iters < decay,
                    "Expected --lr-warmup-iters below the end of the decay (iteration {}), but got "
                    "{}; --lr-warmup-iters {} would work",
                    decay, config.lr_warmup_iters, decay - 1);
  }
  problems.expect(
      config.lr_warmup_init == 0 || config.lr_warmup_iters > 0 ||
          config.lr_warmup_fraction.value_or(0) > 0,
      "Expected --lr-warmup-iters or --lr-warmup-fraction with --lr-warmup-init, but got none; "
      "leave --lr-warmup-init out");
  const bool constant = config.lr_decay_style == LrDecayStyle::constant;
  problems.expect(
      !constant || config.min_lr == 0,
      "Expected --lr-decay-style linear, cosine or WSD with --min-lr, but got constant; "
      "leave --min-lr out");
  const bool wsd = config.lr_decay_style == LrDecayStyle::WSD;
  problems.expect(wsd || config.lr_wsd_decay_style == OptimizerConfig().lr_wsd_decay_style,
                  "Expected --lr-decay-style WSD with --lr-wsd-decay-style, but got another style; "
                  "leave --lr-wsd-decay-style out");
  problems.expect(!wsd || config.lr_wsd_decay_iters,
                  "Expected --lr-wsd-decay-iters with --lr-decay-style WSD, but got none; a tenth "
                  "of the run ({}) is usual",
                  decay / 10 > 0 ? decay / 10 : 1);
  problems.expect(wsd || !config.lr_wsd_decay_iters,
                  "Expected --lr-decay-style WSD with --lr-wsd-decay-iters, but got another style; "
                  "leave --lr-wsd-decay-iters out");
  if (!wsd || !config.lr_wsd_decay_iters) return;
  if (problems.at_least("--lr-wsd-decay-iters", *config.lr_wsd_decay_iters, 1) && decay > 0) {
    problems.expect(
        *config.lr_wsd_decay_iters <= decay,
        "Expected --lr-wsd-decay-iters of at most the end of the decay (iteration {}), but "
        "got {}; --lr-wsd-decay-iters {} would work",
        decay, *config.lr_wsd_decay_iters, decay);
  }
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
  problems.is_required_size("--train-iters", options.training.train_iters);
  problems.expect(options.data.mock_data || !options.data.data_path.empty(),
                  "Expected --data-path, but got none; --mock-data needs no files");
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
  check_schedule(options.optimizer, training.train_iters, problems);
  check_tokenizer(options.tokenizer, problems);
  check_data(options, problems);
  check_checkpoints(options.checkpoint, problems);
}

}  // namespace megatron
