// Validation of a subcommand's options. Errors name the nearest valid values.
#pragma once

#include "megatron/config/options/command.h"
#include "megatron/config/options/options.h"

namespace megatron {

class Problems;

// Makes bf16 and params_dtype consistent, sets train_iters from train_samples, and checks the options
// of the subcommand for `world_size` ranks. Throws one Error that lists all problems on one line. May
// be called again on the same options. For generate and
// parity, `options.model` must already hold the model of the checkpoint or the case.
void validate(Options& options, int world_size, Command command = Command::train);

// Parts of validate().
void check_launch(const LaunchConfig& config, int world_size, Problems& problems);
// `command` decides how the message names the option that sets the number of ranks.
void check_world_size(const TransformerConfig& config, int world_size, Command command,
                      Problems& problems);
void check_data_parallel(const Options& options, Problems& problems);
// The micro-batch groups of the interleaved schedule, for `microbatches` per step of a data-parallel
// rank. Does nothing without virtual stages.
void check_microbatch_groups(const TransformerConfig& config, int64_t microbatches,
                             Problems& problems);
void check_batches(const Options& options, int world_size, Problems& problems);
// `steps` is the maximum number of steps of the run.
void check_profile(const ProfileConfig& config, int64_t steps, int world_size, Problems& problems);
void check_optimizer(const OptimizerConfig& config, Problems& problems);
// The length of the run and of its learning-rate schedule, in iterations or in samples.
void check_length(const Options& options, Problems& problems);
void check_schedule(const OptimizerConfig& config, const TrainingConfig& training,
                    Problems& problems);
void check_data(const Options& options, Problems& problems);
void check_tokenizer(const TokenizerConfig& config, Problems& problems);
// Options that a training run requires but a plan does not.
void check_can_start(const Options& options, Problems& problems);
// Options of a training run or its plan.
void check_training(const Options& options, Problems& problems);
void check_generation(const GenerationConfig& config, Problems& problems);
void check_evaluation(const EvaluationConfig& config, Problems& problems);
// Of the commands that run the inference engine.
void check_engine(const Options& options, Command command, Problems& problems);

}  // namespace megatron
