#include "megatron/training/checkpoint_folders.h"

#include <filesystem>

#include "megatron/base/error.h"
#include "megatron/checkpoint/checkpoint_directory.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;

// The folder of the tracker file, where `load` may also name one iteration in it.
fs::path root_of(const fs::path& load) {
  return fs::exists(load / kIndexFile) ? load / ".." : load;
}

}  // namespace

bool loads_checkpoint(const CheckpointConfig& config) {
  if (config.load.empty()) return false;
  if (config.exit_on_missing_checkpoint) return true;
  return !is_same_folder(config.load, config.save) || latest_iteration(config.load) ||
         !stored_iterations(config.load).empty();
}

void check_finetune_folders(const CheckpointConfig& config) {
  if (!config.finetune || config.load.empty() || config.save.empty()) return;
  check(!is_same_folder(root_of(config.load), config.save),
        "Expected --save to name another folder than --load with --finetune, which starts at "
        "iteration 1 again, but got {} for both; give a new folder to --save, or leave out "
        "--finetune to resume",
        config.save);
  const std::vector<int64_t> stored = stored_iterations(config.save);
  check(stored.empty(),
        "Expected --save to name a folder without checkpoints with --finetune, which starts at "
        "iteration 1 again, but {} holds iteration {}; give a new folder to --save, or resume that "
        "run by --load {} without --finetune",
        config.save, stored.empty() ? 0 : stored.back(), config.save);
}

std::optional<std::string> checkpoints_to_replace(const CheckpointConfig& config,
                                                  int64_t first_iteration) {
  if (config.save.empty()) return std::nullopt;
  const std::vector<int64_t> stored = stored_iterations(config.save);
  if (stored.empty() || stored.back() <= first_iteration) return std::nullopt;
  return fmt::format(
      "warning: {} holds checkpoints of another run up to iteration {}; this run starts at "
      "iteration {}, replaces those that it reaches and sets the tracker file back",
      config.save, stored.back(), first_iteration + 1);
}

}  // namespace megatron
