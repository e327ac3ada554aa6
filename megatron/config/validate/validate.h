// Refuses at start what cannot work, with the nearest values that do.
#pragma once

#include "megatron/config/options/command.h"
#include "megatron/config/options/options.h"

namespace megatron {

class Problems;

// Brings bf16 and params_dtype into step, then checks the options that the subcommand takes, alone
// and together, for a world of `world_size` ranks. Throws one Error that lists all problems in one
// line. For generate and parity the model must have been filled in (from the checkpoint or the
// case) before.
void validate(Options& options, int world_size, Command command = Command::train);

bool same(const YarnConfig& left, const YarnConfig& right);

// The parts of it.
void check_attention(const GPTModelConfig& config, Problems& problems);
// `command` is asked for the ranks that would work.
void check_model(const GPTModelConfig& config, int world_size, Command command, Problems& problems);
void check_context_parallel(const GPTModelConfig& config, Problems& problems);
void check_data_parallel(const Options& options, Problems& problems);
// The split over pipeline stages; sizes must be checked before.
void check_pipeline(const GPTModelConfig& config, Problems& problems);
// The groups of the interleaved schedule, for the micro-batches of a step of one data-parallel
// rank; nothing where the layout is not interleaved.
void check_microbatch_groups(const TransformerConfig& config, int64_t microbatches,
                             Problems& problems);
void check_optimizer(const OptimizerConfig& config, Problems& problems);
void check_schedule(const OptimizerConfig& config, int64_t train_iters, Problems& problems);
void check_batches(const Options& options, int world_size, Problems& problems);
void check_tokenizer(const TokenizerConfig& config, Problems& problems);
// Overlap and deferral in tensor-parallel layers.
void check_tensor_parallel_overlap(const TransformerConfig& config, Problems& problems);
// `steps` that the run takes at most.
void check_profile(const ProfileConfig& config, int64_t steps, int world_size, Problems& problems);
// What a run cannot do without, and a plan of it can.
void check_can_start(const Options& options, Problems& problems);
// What is given for it.
void check_training(const Options& options, Problems& problems);
void check_unused(const Options& options, Problems& problems);

}  // namespace megatron
