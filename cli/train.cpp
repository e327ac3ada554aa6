// megatron train: trains a GPT.
#include "megatron/config/options/accepted_flags.h"
#include "megatron/config/validate/validate.h"
#include "megatron/convert/source_model.h"
#include "megatron/data/data_sources.h"
#include "megatron/data/indexed_dataset.h"
#include "megatron/parallel/launch.h"
#include "megatron/reporting/step_profiler.h"
#include "megatron/tokenizers/build_tokenizer.h"
#include "megatron/training/adopted_model.h"
#include "megatron/training/checkpoint_folders.h"
#include "megatron/training/same_options.h"
#include "megatron/training/training_loop.h"

#include "cli/command.h"

namespace megatron {

int run_train(const ParsedCommand& command) {
  if (const auto ranks = ranks_to_start(command.options.launch)) {
    Options options = command.options;
    adopt_loaded_model(options, command.given);
    validate(options, *ranks);
    // Bad folders, paths and files are refused before the ranks initialize their weights.
    check_finetune_folders(options.checkpoint);
    if (is_source_model(options.checkpoint.load)) open_source_model(options.checkpoint.load);
    for (const std::string& path : read_data_sources(options.data).prefixes()) {
      IndexedDataset{path, options.data.mmap_bin_files};
    }
  }
  prepare_step_profiler(command.options);
  return launch(command.options.launch, [&](RankContext& rank) {
    check_same_options(command.options, rank);
    Options options = command.options;
    adopt_loaded_model(options, command.given);
    const std::unique_ptr<Tokenizer> tokenizer = build_run_tokenizer(options);
    validate(options, rank.world_size);
    std::vector<std::string> notes;
    if (!command.without_effect.empty())
      notes.push_back(flags_without_effect_line(command.without_effect));
    return run_training(options, tokenizer.get(), rank, notes);
  });
}

}  // namespace megatron
