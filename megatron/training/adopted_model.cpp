#include "megatron/training/adopted_model.h"

#include <filesystem>

#include "megatron/checkpoint/checkpoint_directory.h"
#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/config/options/options_json.h"
#include "megatron/convert/model_options.h"
#include "megatron/convert/padding_groups.h"
#include "megatron/convert/source_model.h"

namespace megatron {

void adopt_loaded_model(Options& options, const std::set<std::string>& given) {
  const std::string& load = options.checkpoint.load;
  if (load.empty()) return;
  if (is_source_model(load)) {
    options.checkpoint.finetune = true;
    const GPTModelConfig model = with_padding_groups(
        read_source_config(load), options.model.transformer.tensor_model_parallel_size);
    return adopt_model(options, model, given, load);
  }
  // A folder without a checkpoint is reported when it is loaded.
  if (!std::filesystem::exists(std::filesystem::path(load) / kIndexFile) &&
      (!std::filesystem::is_directory(load) || !latest_iteration(load)))
    return;
  const auto checkpoint = CheckpointReader::open(load);
  if (!std::filesystem::exists(checkpoint.directory() / kSourceFolder)) return;
  adopt_model(options,
              with_padding_groups(from_json(checkpoint.common().at("options")).model,
                                  options.model.transformer.tensor_model_parallel_size),
              given, load);
}

}  // namespace megatron
