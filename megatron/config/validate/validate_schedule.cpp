// Checks of the length of a training run and of its learning-rate schedule. Both are given in
// iterations, or both in samples.
#include <algorithm>

#include "megatron/base/problems.h"
#include "megatron/config/validate/validate.h"

namespace megatron {
namespace {

// The lengths of the schedule with the names of their flags.
struct ScheduleFlags {
  const char *decay_flag, *warmup_flag, *wsd_flag;
  const char* end;  // "the end of the decay (iteration 8)" names it
  std::optional<int64_t> decay;
  int64_t warmup;
  std::optional<int64_t> wsd;
  int64_t run;  // length of the run; 0: unknown
};

ScheduleFlags schedule_flags(const OptimizerConfig& config, const TrainingConfig& training) {
  if (training.train_samples) {
    return {"--lr-decay-samples",        "--lr-warmup-samples",
            "--lr-wsd-decay-samples",    "sample",
            config.lr_decay_samples,     config.lr_warmup_samples,
            config.lr_wsd_decay_samples, *training.train_samples};
  }
  return {"--lr-decay-iters",        "--lr-warmup-iters",
          "--lr-wsd-decay-iters",    "iteration",
          config.lr_decay_iters,     config.lr_warmup_iters,
          config.lr_wsd_decay_iters, training.train_iters};
}

void check_wsd(const OptimizerConfig& config, const ScheduleFlags& flags, int64_t decay,
               Problems& problems) {
  const bool wsd = config.lr_decay_style == LrDecayStyle::WSD;
  problems.expect(wsd || config.lr_wsd_decay_style == OptimizerConfig().lr_wsd_decay_style,
                  "Expected --lr-decay-style WSD with --lr-wsd-decay-style, but got another style; "
                  "leave --lr-wsd-decay-style out");
  problems.expect(!wsd || flags.wsd,
                  "Expected {} with --lr-decay-style WSD, but got none; a tenth of the run ({}) is "
                  "usual",
                  flags.wsd_flag, decay / 10 > 0 ? decay / 10 : 1);
  problems.expect(wsd || !flags.wsd,
                  "Expected --lr-decay-style WSD with {0}, but got another style; leave {0} out",
                  flags.wsd_flag);
  if (!wsd || !flags.wsd) return;
  if (problems.at_least(flags.wsd_flag, *flags.wsd, 1) && decay > 0) {
    problems.expect(*flags.wsd <= decay,
                    "Expected {0} of at most the end of the decay ({1} {2}), but got {3}; {0} {2} "
                    "would work",
                    flags.wsd_flag, flags.end, decay, *flags.wsd);
  }
}

void check_rates(const OptimizerConfig& config, Problems& problems) {
  const double most = std::max(config.lr, 0.0);  // check_optimizer reports a negative one
  problems.expect(config.min_lr >= 0 && config.min_lr <= most,
                  "Expected --min-lr between 0 and --lr ({}), but got {}; {} works", config.lr,
                  config.min_lr, 0);
  problems.expect(config.lr_warmup_init >= 0 && config.lr_warmup_init <= most,
                  "Expected --lr-warmup-init between 0 and --lr ({}), but got {}; {} works",
                  config.lr, config.lr_warmup_init, 0);
  problems.expect(!config.decoupled_min_lr || config.decoupled_lr,
                  "Expected --decoupled-lr with --decoupled-min-lr, but got none; give both or "
                  "neither");
  if (!config.decoupled_lr) return;
  problems.expect(*config.decoupled_lr >= 0,
                  "Expected --decoupled-lr of at least 0, but got {}; {} is --lr",
                  *config.decoupled_lr, config.lr);
  const double least = config.decoupled_min_lr.value_or(config.min_lr);
  problems.expect(least >= 0 && least <= std::max(*config.decoupled_lr, 0.0),
                  "Expected {} between 0 and --decoupled-lr ({}), but got {}; --decoupled-min-lr 0 "
                  "works",
                  config.decoupled_min_lr ? "--decoupled-min-lr" : "--min-lr", *config.decoupled_lr,
                  least);
  const bool constant = config.lr_decay_style == LrDecayStyle::constant;
  problems.expect(!constant || !config.decoupled_min_lr,
                  "Expected --lr-decay-style linear, cosine or WSD with --decoupled-min-lr, but "
                  "got constant; leave --decoupled-min-lr out");
}

}  // namespace

void check_length(const Options& options, Problems& problems) {
  const TrainingConfig& training = options.training;
  const OptimizerConfig& optimizer = options.optimizer;
  const auto refuse = [&](bool given, const char* flag, const char* instead, const char* length) {
    problems.expect(!given, "Expected {} with {}, but got {}; use {}", instead, length, flag,
                    instead);
  };
  if (training.train_samples) {
    problems.at_least("--train-samples", *training.train_samples, 1);
    refuse(optimizer.lr_decay_iters.has_value(), "--lr-decay-iters", "--lr-decay-samples",
           "--train-samples");
    refuse(optimizer.lr_warmup_iters != 0, "--lr-warmup-iters", "--lr-warmup-samples",
           "--train-samples");
    refuse(optimizer.lr_wsd_decay_iters.has_value(), "--lr-wsd-decay-iters",
           "--lr-wsd-decay-samples", "--train-samples");
    return;
  }
  refuse(optimizer.lr_decay_samples.has_value(), "--lr-decay-samples", "--lr-decay-iters",
         "--train-iters");
  refuse(optimizer.lr_warmup_samples != 0, "--lr-warmup-samples", "--lr-warmup-iters",
         "--train-iters");
  refuse(optimizer.lr_wsd_decay_samples.has_value(), "--lr-wsd-decay-samples",
         "--lr-wsd-decay-iters", "--train-iters");
}

void check_schedule(const OptimizerConfig& config, const TrainingConfig& training,
                    Problems& problems) {
  const ScheduleFlags flags = schedule_flags(config, training);
  check_rates(config, problems);
  problems.at_least(flags.warmup_flag, flags.warmup, 0);
  problems.expect(!config.lr_warmup_fraction || flags.warmup == 0,
                  "Expected {} or --lr-warmup-fraction, but got both; leave one out",
                  flags.warmup_flag);
  const int64_t decay = flags.decay.value_or(flags.run);
  if (flags.decay) problems.at_least(flags.decay_flag, *flags.decay, 1);
  if (config.lr_warmup_fraction) {
    problems.expect(*config.lr_warmup_fraction >= 0 && *config.lr_warmup_fraction < 1,
                    "Expected --lr-warmup-fraction of at least 0 and below 1, but got {}; 0.01 "
                    "works",
                    *config.lr_warmup_fraction);
  }
  if (decay > 0) {
    problems.expect(flags.warmup < decay,
                    "Expected {0} below the end of the decay ({1} {2}), but got {3}; {0} {4} would "
                    "work",
                    flags.warmup_flag, flags.end, decay, flags.warmup, decay - 1);
  }
  problems.expect(
      config.lr_warmup_init == 0 || flags.warmup > 0 || config.lr_warmup_fraction.value_or(0) > 0,
      "Expected {} or --lr-warmup-fraction with --lr-warmup-init, but got none; leave "
      "--lr-warmup-init out",
      flags.warmup_flag);
  const bool constant = config.lr_decay_style == LrDecayStyle::constant;
  problems.expect(!constant || config.min_lr == 0,
                  "Expected --lr-decay-style linear, cosine or WSD with --min-lr, but got "
                  "constant; leave --min-lr out");
  check_wsd(config, flags, decay, problems);
}

}  // namespace megatron
