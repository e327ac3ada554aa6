#include "megatron/training/hf_export.h"

#include "megatron/checkpoint/checkpoint_directory.h"
#include "megatron/convert/hf_folder_writer.h"
#include "megatron/convert/source_model.h"

namespace megatron {

HfExport::HfExport(const Options& options, const std::optional<SourceRecord>& source)
    : root_(options.checkpoint.save_hf),
      record_(export_record(source, options.model, options.model.transformer.compute_dtype())),
      map_(map_of_record(record_, options.model)) {}

std::filesystem::path HfExport::write(int64_t iteration, const GPTModelChunks& chunks) const {
  const std::filesystem::path folder = root_ / iteration_directory_name(iteration);
  write_hf_folder(folder, record_, map_, values_of_state(sharded_state_dict(chunks)),
                  *chunks.front()->groups().world, {.replace = true});
  return folder;
}

}  // namespace megatron
