#include "megatron/config/validate/validate.h"

#include <limits>
#include <utility>

#include <fmt/ranges.h>

#include "megatron/base/dtype.h"
#include "megatron/base/problems.h"
#include "megatron/config/model/attention_backend.h"
#include "megatron/config/model/batch_size.h"
#include "megatron/config/model/model_checks.h"
#include "megatron/config/model/split_weights.h"
#include "megatron/config/options/fields_as_flags.h"
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

// --bf16 and --params-dtype bf16 are equivalent, and so are those of fp16.
void align_precision(TransformerConfig& config, Problems& problems) {
  if (config.bf16 && config.fp16) return;  // check_model refuses both
  problems.expect(!(config.bf16 || config.fp16) || config.params_dtype != at::kDouble,
                  "Expected {} or --params-dtype fp64, but got both; leave one out",
                  config.bf16 ? "--bf16" : "--fp16");
  if (!problems.empty()) return;
  if (config.bf16) config.params_dtype = at::kBFloat16;
  if (config.fp16) config.params_dtype = at::kHalf;
  config.bf16 = config.params_dtype == at::kBFloat16;
  config.fp16 = config.params_dtype == at::kHalf;
}

// Problems of the model, with flags in place of field names.
Problems model_problems(const GPTModelConfig& model, Command command) {
  Problems problems;
  check_model(model, problems);
  if (contains(kRunCommands, command)) {
    problems.collect([&] { check_attention_environment(model.transformer.attention_backend); });
  }
  problems.rewrite_texts(fields_as_flags);
  return problems;
}

// Without sequence parallelism the tensor-parallel ranks have the same tokens, and would train their
// experts with each of them several times.
void check_expert_training(const TransformerConfig& t, Command command, Problems& problems) {
  const bool trains = !contains(kEngineCommands, command);
  problems.expect(
      !trains || !t.moe.has_experts() || t.sequence_parallel || t.tensor_model_parallel_size == 1,
      "Expected --sequence-parallel with --num-experts and "
      "--tensor-model-parallel-size {}, but got none; both together work",
      t.tensor_model_parallel_size);
}

// An upper bound of the run's steps. A plan may not set it.
int64_t steps_of(const Options& options, Command command) {
  if (command == Command::bench) return options.bench.warmup_steps + options.bench.steps;
  const int64_t steps = options.training.train_iters;
  return command == Command::plan && steps == 0 ? std::numeric_limits<int64_t>::max() : steps;
}

// Loss scaling is that of fp16.
void check_loss_scaling(const Options& options, Problems& problems) {
  const OptimizerConfig &given = options.optimizer, defaults;
  const bool half = options.model.transformer.compute_dtype() == at::kHalf;
  const auto check_flag = [&](const char* flag, bool is_given, bool dynamic) {
    problems.expect(half || !is_given, "Expected --fp16 with {}, but got none; leave {} out", flag,
                    flag);
    problems.expect(!half || !dynamic || !is_given || !given.loss_scale,
                    "Expected --loss-scale, which is constant, or {}, but got both; leave one out",
                    flag);
  };
  check_flag("--loss-scale", given.loss_scale.has_value(), /*dynamic=*/false);
  check_flag("--initial-loss-scale", given.initial_loss_scale != defaults.initial_loss_scale, true);
  check_flag("--min-loss-scale", given.min_loss_scale != defaults.min_loss_scale, true);
  check_flag("--loss-scale-window", given.loss_scale_window != defaults.loss_scale_window, true);
  check_flag("--hysteresis", given.hysteresis != defaults.hysteresis, true);
  const auto check_scale = [&](const char* flag, double value) {
    problems.expect(value > 0 && value <= 0x1p127,
                    "Expected {} above 0 and at most 2^127, but got {}; powers of two are usual",
                    flag, value);
  };
  check_scale("--loss-scale", given.loss_scale.value_or(1));
  check_scale("--initial-loss-scale", given.initial_loss_scale);
  check_scale("--min-loss-scale", given.min_loss_scale);
  problems.expect(given.min_loss_scale <= given.initial_loss_scale,
                  "Expected --min-loss-scale of at most --initial-loss-scale ({}), but got {}",
                  given.initial_loss_scale, given.min_loss_scale);
  problems.at_least("--loss-scale-window", given.loss_scale_window, 1);
  problems.at_least("--hysteresis", given.hysteresis, 1);
}

void check_unused_optimizer_options(const Options& options, Problems& problems) {
  const OptimizerConfig& optimizer = options.optimizer;
  const auto needs = [&](bool used, const char* given, const char* needed) {
    problems.expect(used, "Expected {} with {}, but got none; give both or neither", needed, given);
  };
  needs(options.model.transformer.mup.use_mup || optimizer.mup_scales_learning_rate,
        "--no-mup-learning-rates", "--use-mup");
  needs(optimizer.weight_decay != 0 || !optimizer.apply_wd_to_1d_parameters,
        "--apply-wd-to-1d-parameters", "--weight-decay above 0");
  const bool decays = optimizer.lr_decay_style != LrDecayStyle::constant;
  needs(decays || !optimizer.lr_decay_iters, "--lr-decay-iters", "a --lr-decay-style that decays");
  needs(decays || !optimizer.lr_decay_samples, "--lr-decay-samples",
        "a --lr-decay-style that decays");
  problems.expect(
      options.ddp.grad_reduce_in_fp32 || options.model.transformer.params_dtype == at::kBFloat16,
      "Expected --bf16 with --grad-reduce-in-bf16, but got {} parameters; leave "
      "--grad-reduce-in-bf16 out",
      dtype_name(options.model.transformer.params_dtype));
}

// The number of whole steps in --train-samples. Does nothing for a layout that does not fit, which
// is reported.
void set_train_iters(Options& options, int world_size, Problems& problems) {
  if (!options.training.train_samples || !problems.empty()) return;
  const TransformerConfig& t = options.model.transformer;
  const int64_t data_parallel =
      world_size /
      (t.tensor_model_parallel_size * t.pipeline_model_parallel_size * t.context_parallel_size);
  const BatchSizeSchedule schedule(options.batch, data_parallel);
  const int64_t samples = *options.training.train_samples, steps = schedule.steps_until(samples);
  problems.expect(steps > 0,
                  "Expected --train-samples of at least one global batch ({}), but got {}; {} "
                  "works",
                  schedule.batch_size(0), samples, schedule.batch_size(0));
  const int64_t given = std::exchange(options.training.train_iters, steps);
  problems.expect(given == 0 || given == steps,
                  "Expected --train-iters or --train-samples, but got both: {} samples are {} "
                  "iterations, not {}; leave one out",
                  samples, steps, given);
}

// "969,30,1" for "969, 30, 1" and "969/30/1": one text per split, which a resume compares.
std::string canonical_split(const std::string& text) {
  const auto weights = parse_split_weights(text);
  if (!weights || text.find_first_of(" \t/'\"") == std::string::npos) return text;
  return fmt::format("{}", fmt::join(*weights, ","));
}

void check_decode_bench(const Options& options, Problems& problems) {
  const BenchConfig& bench = options.bench;
  problems.at_least("--prompt-tokens", bench.prompt_tokens, 1);
  problems.at_least("--new-tokens", bench.new_tokens, 1);
  problems.at_least("--batch", bench.batch, 1);
  const BenchConfig defaults;
  problems.expect(
      options.decode || (bench.prompt_tokens == defaults.prompt_tokens &&
                         bench.new_tokens == defaults.new_tokens && bench.batch == defaults.batch &&
                         bench.weights.empty()),
      "Expected --decode with --prompt-tokens, --new-tokens, --batch and --weights, but "
      "got none; both together work");
}

void check_command(const Options& options, Command command, Problems& problems) {
  switch (command) {
    case Command::train:
      check_can_start(options, problems);
      problems.expect(
          !options.model.transformer.moe.moe_use_upcycling || !options.checkpoint.load.empty(),
          "Expected --load with --moe-use-upcycling, but got none; the folder of a dense checkpoint "
          "works");
      check_training(options, problems);
      break;
    case Command::plan:
      problems.at_least("--train-iters", options.training.train_iters, 0);
      check_training(options, problems);
      break;
    case Command::generate:
      check_generation(options.generation, problems);
      check_engine(options, command, problems);
      break;
    case Command::evaluate:
      check_evaluation(options.evaluation, problems);
      check_engine(options, command, problems);
      break;
    case Command::bench:
      problems.at_least("--steps", options.bench.steps, 1);
      problems.at_least("--warmup-steps", options.bench.warmup_steps, 0);
      check_decode_bench(options, problems);
      problems.expect(options.model.vocab_size.has_value(),
                      "Expected --vocab-size of at least 1, but got none; GPT-2 has 50257");
      break;
    case Command::parity:
      problems.expect(options.parity.tolerance > 0,
                      "Expected --tolerance above 0, but got {}; 1 keeps the bounds",
                      options.parity.tolerance);
      break;
    case Command::preprocess:
      problems.at_least("--workers", options.preprocess.workers, 1);
      check_tokenizer(options.tokenizer, problems);
      break;
    case Command::tokenize:
      check_tokenizer(options.tokenizer, problems);
      break;
    case Command::convert:
    case Command::verify_layout:  // each layout is validated as a run of its own (megatron/verify)
    case Command::inspect:
    case Command::options:
      break;
  }
}

}  // namespace

void validate(Options& options, int world_size, Command command) {
  Problems problems;
  if (contains(kLayoutCommands, command)) {
    align_precision(options.model.transformer, problems);
    problems.append(model_problems(options.model, command));
    check_expert_training(options.model.transformer, command, problems);
    check_launch(options.launch, world_size, problems);
    check_world_size(options.model.transformer, world_size, command, problems);
    check_data_parallel(options, problems);
  }
  if (contains(kModelCommands, command)) {
    check_batches(options, world_size, problems);
    check_length(options, problems);
    set_train_iters(options, world_size, problems);
    check_profile(options.profile, steps_of(options, command), world_size, problems);
    check_optimizer(options.optimizer, problems);
    check_unused_optimizer_options(options, problems);
    check_loss_scaling(options, problems);
  }
  check_command(options, command, problems);
  problems.throw_if_any();
  options.data.split = canonical_split(options.data.split);
}

}  // namespace megatron
