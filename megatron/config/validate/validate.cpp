#include "megatron/config/validate/validate.h"

#include <limits>

#include "megatron/base/dtype.h"
#include "megatron/base/problems.h"
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

void check_launch(const LaunchConfig& config, int world_size, Problems& problems) {
  if (config.nproc && problems.at_least("--nproc", *config.nproc, 1)) {
    problems.expect(*config.nproc <= kMostLocalRanks, "Expected --nproc of 1 to {}, but got {}",
                    kMostLocalRanks, *config.nproc);
  }
  if (config.threads) problems.at_least("--threads", *config.threads, 1);
  problems.expect(
      !config.threads_as_ranks || config.nproc.has_value(),
      "Expected --nproc with --threads-as-ranks, but got none; --nproc N says how many");
  if (config.master_port) {
    problems.expect(*config.master_port >= 1 && *config.master_port <= 65535,
                    "Expected --master-port between 1 and 65535, but got {}; without the flag a "
                    "free one is taken",
                    *config.master_port);
  }
  const bool meets = world_size > 1 && !config.threads_as_ranks;
  problems.expect(
      meets || !config.master_port,
      "Expected several ranks as processes with --master-port, but got {}; leave it out",
      config.threads_as_ranks ? "threads" : "one rank");
  problems.expect(
      meets || config.master_addr == LaunchConfig().master_addr,
      "Expected several ranks as processes with --master-addr, but got {}; leave it out",
      config.threads_as_ranks ? "threads" : "one rank");
  problems.expect(config.distributed_timeout_minutes > 0,
                  "Expected --distributed-timeout-minutes above 0, but got {}; 10 is the default",
                  config.distributed_timeout_minutes);
}

void check_generation(const GenerationConfig& config, Problems& problems) {
  problems.at_least("--max-new-tokens", config.max_new_tokens, 1);
  problems.at_least("--num-samples", config.num_samples, 1);
  problems.at_least("--top-k", config.top_k, 0);
  problems.expect(config.temperature >= 0,
                  "Expected --temperature of at least 0, but got {}; 0 takes the likeliest token",
                  config.temperature);
  problems.expect(config.top_p >= 0 && config.top_p <= 1,
                  "Expected --top-p between 0 and 1, but got {}; 0 draws from all tokens",
                  config.top_p);
  problems.expect(config.temperature != 0 || (config.top_k == 0 && config.top_p == 0),
                  "Expected --greedy (--temperature 0) or --top-k or --top-p, but got both; the "
                  "likeliest token needs no draw");
  problems.expect(config.temperature != 0 || config.num_samples <= 1,
                  "Expected a --temperature above 0 with --num-samples {}, but got the likeliest "
                  "token each time; 1 sample says the same",
                  config.num_samples);
  problems.expect(config.top_k <= 0 || config.top_p <= 0,
                  "Expected --top-k or --top-p, but got both ({} and {}); 0 turns one off",
                  config.top_k, config.top_p);
}

// --bf16 and --params-dtype bf16 say the same.
void align_precision(TransformerConfig& config, Problems& problems) {
  problems.expect(!config.bf16 || config.params_dtype != at::kDouble,
                  "Expected --bf16 or --params-dtype fp64, but got both; leave one out");
  if (!problems.empty()) return;
  if (config.bf16) config.params_dtype = at::kBFloat16;
  config.bf16 = config.params_dtype == at::kBFloat16;
  problems.expect(config.pipeline_dtype.value_or(config.params_dtype) == config.params_dtype,
                  "Expected --pipeline-dtype to be that of the parameters, but got another; leave "
                  "it out");
}

// Steps that the run takes at most; a plan may leave that open.
int64_t steps_of(const Options& options, Command command) {
  if (command == Command::bench) return options.bench.warmup_steps + options.bench.steps;
  const int64_t steps = options.training.train_iters;
  return command == Command::plan && steps == 0 ? std::numeric_limits<int64_t>::max() : steps;
}

}  // namespace

void validate(Options& options, int world_size, Command command) {
  Problems problems;
  if (contains(kLayoutCommands, command)) {
    align_precision(options.model.transformer, problems);
    check_launch(options.launch, world_size, problems);
    check_model(options.model, world_size, command, problems);
    check_data_parallel(options, problems);
  }
  if (contains(kModelCommands, command)) {
    check_batches(options, world_size, problems);
    check_profile(options.profile, steps_of(options, command), world_size, problems);
    check_optimizer(options.optimizer, problems);
    check_unused(options, problems);
    problems.expect(
        options.ddp.grad_reduce_in_fp32 || options.model.transformer.params_dtype == at::kBFloat16,
        "Expected --bf16 with --grad-reduce-in-bf16, but got {} parameters; leave "
        "--grad-reduce-in-bf16 out",
        dtype_name(options.model.transformer.params_dtype));
  }
  switch (command) {
    case Command::train:
      check_can_start(options, problems);
      check_training(options, problems);
      break;
    case Command::plan:
      problems.at_least("--train-iters", options.training.train_iters, 0);
      check_training(options, problems);
      break;
    case Command::generate:
      check_generation(options.generation, problems);
      problems.expect(options.model.transformer.context_parallel_size == 1,
                      "Expected --context-parallel-size 1 for generate, which decodes one position "
                      "at a time, but got {}; leave it out",
                      options.model.transformer.context_parallel_size);
      check_tokenizer(options.tokenizer, problems);
      break;
    case Command::bench:
      problems.at_least("--steps", options.bench.steps, 1);
      problems.at_least("--warmup-steps", options.bench.warmup_steps, 0);
      problems.expect(options.model.vocab_size > 0,
                      "Expected --vocab-size of at least 1, but got {}; GPT-2 has 50257",
                      options.model.vocab_size);
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
    case Command::verify_layout:  // each layout is validated as a run of its own (megatron/verify)
    case Command::inspect:
    case Command::options:
      break;
  }
  problems.throw_if_any();
}

}  // namespace megatron
